"""Attention from the photo alone, without a network."""

from collections.abc import Sequence
from math import inf

import torch
from kornia.color import rgb_to_lab
from kornia.filters import gaussian_blur2d, spatial_gradient
from torch import Tensor
from torch.nn import functional

from diffsegkit.interfaces import AttentionMap, AttentionSource, SourceOutput
from diffsegkit.interfaces.checks import Grid

# One unit of every descriptor is about 25 units of CIELAB, a clear difference of colour.
_LAB_UNIT = 25.0
# Gaussian derivatives are taken at 1 and 2 pixels of an image of 512 ...
_DERIVATIVE_SIGMAS = (1 / 512, 2 / 512)
# ... averaged over cells of 8 such pixels, of which the median over 5 x 5 is taken.
_TEXTURE_CELLS = 64
_MEDIAN_CELLS = 5


class AffinitySource(AttentionSource):
    """Affinities of image cells as attention: softmax of distances of simple descriptors.

    It needs no weights and knows nothing of objects: cells attend to cells that look alike and
    lie near. So it is a scientific baseline, showing how much of DiffSeg comes from the merging
    alone, and a stand-in that works anywhere. It is not what the paper does.

    Each cell of each grid is described by its mean colour (CIELAB), its texture (median
    strength of Gaussian derivatives of lightness in four directions at two scales, and the spread
    of colours), and its position. The attention of cell i to cell j is
    ``softmax_j(-d(i, j) / temperature)``, where d saturates.

    Args:
        cells: Cells along the longer side, one number per grid. The shorter side gets as many as
            keep cells square.
        colour: Weight of the colour distance, in units of 25 of CIELAB.
        lightness: Weight of lightness within colour; below 1, shadows part less.
        texture: Weight of the texture distance.
        position: Weight of the distance in the image; 1 is the longer side.
        saturation: Distances approach this value, as differences of colour do for people: two
            things that differ clearly do not differ more for differing even more clearly. So
            colourful photos do not fall into more segments than others.
        temperature: Below it, distances count as near.

    Raises:
        ValueError: If there is no grid, or an argument is out of range.

    Example:
        >>> import torch
        >>> output = AffinitySource(cells=(8, 4))(torch.rand(1, 3, 64, 32))
        >>> [attention.grid for attention in output.attention]
        [(8, 4), (4, 2)]
    """

    size_multiple = 64

    def __init__(
        self,
        cells: Sequence[int] = (64, 32, 16, 8),
        colour: float = 1.0,
        lightness: float = 0.7,
        texture: float = 1.0,
        position: float = 0.2,
        saturation: float = 1.0,
        temperature: float = 0.15,
    ) -> None:
        super().__init__()
        if len(cells) == 0 or min(cells) < 1:
            raise ValueError(
                f"Expected argument `cells` to hold one or more positive numbers, but got {cells}."
            )
        weights = {
            "colour": colour, "lightness": lightness, "texture": texture, "position": position
        }  # fmt: skip
        for name, value in weights.items():
            if not 0 <= value < inf:
                raise ValueError(f"Expected argument `{name}` to be at least 0, but got {value}.")
        for name, value in {"saturation": saturation, "temperature": temperature}.items():
            if not 0 < value < inf:
                raise ValueError(f"Expected argument `{name}` above 0, but got {value}.")
        self.cells = tuple(cells)
        self.colour = colour
        self.lightness = lightness
        self.texture = texture
        self.position = position
        self.saturation = saturation
        self.temperature = temperature

    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:  # noqa: ARG002
        """Describe the cells of each grid and compare them.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB, of any size.
            prompts: Not looked at.

        Returns:
            One map per grid, float32, whatever the dtype of the images.
        """
        lab = rgb_to_lab(images.float()) / _LAB_UNIT
        channels = lab.new_tensor([self.lightness, 1.0, 1.0])[:, None, None] * self.colour
        colour, texture = lab * channels, _texture(lab) * self.texture
        height, width = images.shape[2:]
        attention = []
        for cells in self.cells:
            grid = _grid(height, width, cells)
            position = _position(grid).to(lab.device) * self.position
            descriptors = torch.cat(
                [
                    functional.adaptive_avg_pool2d(colour, grid),
                    functional.adaptive_avg_pool2d(texture, grid),
                    position.expand(len(images), -1, -1, -1),
                ],
                dim=1,
            )
            flat = descriptors.flatten(2).mT
            # s (1 - exp(-d / s)): near d for small d, and never above s.
            saturated = _distances(flat).div_(-self.saturation).expm1_().mul_(-self.saturation)
            logits = saturated.div_(-self.temperature)
            attention.append(
                AttentionMap(torch.softmax(logits, dim=-1), grid, name=f"affinity_{cells}")
            )
        return SourceOutput(attention, images=images)

    def fingerprint(self) -> str:
        """The version of the descriptors, and every option."""
        return f"AffinitySource-1({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"cells={self.cells}, colour={self.colour}, lightness={self.lightness}, "
            f"texture={self.texture}, position={self.position}, "
            f"saturation={self.saturation}, temperature={self.temperature}"
        )


def _grid(height: int, width: int, cells: int) -> Grid:
    """The grid with ``cells`` along the longer side and cells as square as can be."""
    longer = max(height, width)
    rows, columns = (max(1, round(side * cells / longer)) for side in (height, width))
    return rows, columns


def _distances(descriptors: Tensor) -> Tensor:
    """``(B, N, C)`` to Euclidean ``(B, N, N)``.

    Not through a matrix product: that is twice as fast, but it puts 4e-3 where two cells are
    alike, and the result for an image depends on the batch it is in.
    """
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(descriptors, descriptors, compute_mode=exact)


def _position(grid: Grid) -> Tensor:
    """``(2, h, w)``: the centre of each cell, the longer side being 1."""
    rows, columns = ((torch.arange(side) + 0.5) / max(grid) for side in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _texture(lab: Tensor) -> Tensor:
    """Texture of ``(B, 3, H, W)`` on a fine grid: ``(B, 11, h, w)``, in units of colour.

    Mean strength of Gaussian derivatives of lightness in four directions at two scales (a
    classical filter bank), and the standard deviation of each colour channel, per cell; then the
    median over neighbouring cells, which an edge between two plain things does not move, because
    it crosses a minority of them.
    """
    longer = max(lab.shape[2:])
    grid = _grid(lab.shape[2], lab.shape[3], _TEXTURE_CELLS)
    responses = []
    for sigma in _DERIVATIVE_SIGMAS:
        smooth = _blur(lab[:, :1], sigma * longer)
        along_x, along_y = (spatial_gradient(smooth)[:, 0] * sigma * longer).unbind(1)
        falling, rising = (along_x + along_y) / 2**0.5, (along_x - along_y) / 2**0.5
        responses += [along_x, along_y, falling, rising]
    strength = functional.adaptive_avg_pool2d(torch.stack(responses, dim=1).abs_(), grid)
    mean = functional.adaptive_avg_pool2d(lab, grid)
    variance = functional.adaptive_avg_pool2d(lab.square(), grid) - mean.square()
    return _median(torch.cat([strength, variance.clamp_min(0).sqrt()], dim=1))


def _median(cells: Tensor) -> Tensor:
    """``(B, C, h, w)``: the median over the neighbourhood of each cell, borders repeated."""
    reach = _MEDIAN_CELLS // 2
    padded = functional.pad(cells, (reach,) * 4, mode="replicate")
    windows = padded.unfold(2, _MEDIAN_CELLS, 1).unfold(3, _MEDIAN_CELLS, 1)
    return windows.flatten(4).median(-1).values


def _blur(images: Tensor, sigma: float) -> Tensor:
    size = 2 * int(3 * sigma) + 1
    # Reflection needs the image to be larger than the kernel's reach.
    border = "reflect" if size // 2 < min(images.shape[2:]) else "replicate"
    return gaussian_blur2d(images, (size, size), (sigma, sigma), border_type=border)
