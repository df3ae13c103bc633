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
from diffsegkit.sources.regions import merge_regions, ultrametric

# One unit of every descriptor is about 25 units of CIELAB, a clear difference of colour.
_LAB_UNIT = 25.0
# Gaussian derivatives are taken at 1 and 2 pixels of an image of 512 ...
_DERIVATIVE_SIGMAS = (1 / 512, 2 / 512)
# ... averaged over cells of 8 such pixels, of which the median over 5 x 5 is taken.
_TEXTURE_CELLS = 64
_MEDIAN_CELLS = 5
# A contour compares windows of 2 x 3 cells on its two sides.
_CONTOUR_DEPTH = 2
_CONTOUR_BREADTH = 3
# Below this spread of the descriptors, in their unit, a photo counts as blank.
_LEAST_SPREAD = 1e-3


class AffinitySource(AttentionSource):
    """Affinities of image cells as attention: a softmax of how hard it is to merge two cells.

    It needs no weights and knows nothing of objects: cells attend to cells of the same region,
    and regions are connected and bounded by contours. So it is a scientific baseline, showing how
    far a photo's own colours lead, and a stand-in that works anywhere. It is not what the paper
    does.

    Each cell of each grid is described by its mean colour (CIELAB) and its texture (median
    strength of Gaussian derivatives of lightness in four directions at two scales, and the spread
    of colours). Neighbouring cells are merged, the cheapest pair first, until one region is left
    (:func:`~diffsegkit.sources.regions.merge_regions`). With u the cost of the merge by which
    cells i and j come into one region, divided by the spread of the photo's descriptors, the
    attention of i to j is ``softmax_j(-d / temperature)``, ``d = 1 - exp(-(u / scale)^2)``.

    The division makes flat and colourful photos fall into similar numbers of segments. Every grid
    has regions of its own; aggregation averages them, which steadies the greedy merging.

    Args:
        cells: Cells along the longer side, one number per grid. The shorter side gets as many as
            keep cells square.
        colour: Weight of the colour distance, in units of 25 of CIELAB.
        lightness: Weight of lightness within colour; below 1, shadows part less.
        texture: Weight of the texture distance.
        contour: Weight of the contour between two regions against the difference of their means.
        scale: The cost of a merge above which two cells count as apart.
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
        cells: Sequence[int] = (64, 32),
        colour: float = 1.0,
        lightness: float = 0.7,
        texture: float = 1.0,
        contour: float = 1.5,
        scale: float = 0.1,
        temperature: float = 0.15,
    ) -> None:
        super().__init__()
        if len(cells) == 0 or min(cells) < 1:
            raise ValueError(
                f"Expected argument `cells` to hold one or more positive numbers, but got {cells}."
            )
        weights = {
            "colour": colour, "lightness": lightness, "texture": texture, "contour": contour
        }  # fmt: skip
        for name, value in weights.items():
            if not 0 <= value < inf:
                raise ValueError(f"Expected argument `{name}` to be at least 0, but got {value}.")
        for name, value in {"scale": scale, "temperature": temperature}.items():
            if not 0 < value < inf:
                raise ValueError(f"Expected argument `{name}` above 0, but got {value}.")
        self.cells = tuple(cells)
        self.colour = colour
        self.lightness = lightness
        self.texture = texture
        self.contour = contour
        self.scale = scale
        self.temperature = temperature

    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:  # noqa: ARG002
        """Describe the cells of each grid and merge them.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB, of any size.
            prompts: Not looked at.

        Returns:
            One map per grid, float32, whatever the dtype of the images.
        """
        height, width = images.shape[2:]
        grids = [_grid(height, width, cells) for cells in self.cells]
        # One image at a time: another order of summation, as in a larger batch, could turn round
        # two merges that cost nearly the same.
        descriptors = [self._describe(image[None]) for image in images.detach()]
        attention = [
            AttentionMap(
                torch.stack([self._attend(image, grid) for image in descriptors]),
                grid,
                name=f"affinity_{cells}",
            )
            for cells, grid in zip(self.cells, grids, strict=True)
        ]
        return SourceOutput(attention, images=images)

    def fingerprint(self) -> str:
        """The version of the descriptors, and every option."""
        return f"AffinitySource-2({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"cells={self.cells}, colour={self.colour}, lightness={self.lightness}, "
            f"texture={self.texture}, contour={self.contour}, "
            f"scale={self.scale}, temperature={self.temperature}"
        )

    def _describe(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``(1, 3, H, W)`` the colour of each pixel and the texture of fine cells."""
        lab = rgb_to_lab(image.float()) / _LAB_UNIT
        channels = lab.new_tensor([self.lightness, 1.0, 1.0])[:, None, None] * self.colour
        return lab * channels, _texture(lab) * self.texture

    def _attend(self, descriptors: tuple[Tensor, Tensor], grid: Grid) -> Tensor:
        """``(N, N)``: the attention between the cells of one grid."""
        pooled = [functional.adaptive_avg_pool2d(own, grid) for own in descriptors]
        cells = torch.cat(pooled, dim=1)[0]
        across, down = _contours(cells), _contours(cells.mT).mT
        # Merging is a sequence of small steps: on the host, whatever the device.
        costs = ultrametric(
            merge_regions(
                cells.permute(1, 2, 0).double().cpu().numpy(),
                across.double().cpu().numpy(),
                down.double().cpu().numpy(),
                self.contour,
            )
        )
        relative = torch.from_numpy(costs).float().to(cells) / (_spread(cells) * self.scale)
        distances = relative.square_().neg_().expm1_().neg_()
        return torch.softmax(distances.div_(-self.temperature), dim=-1)


def _grid(height: int, width: int, cells: int) -> Grid:
    """The grid with ``cells`` along the longer side and cells as square as can be."""
    longer = max(height, width)
    rows, columns = (max(1, round(side * cells / longer)) for side in (height, width))
    return rows, columns


def _spread(cells: Tensor) -> Tensor:
    """The root mean square distance of the cells ``(C, h, w)`` from their mean."""
    mean = cells.mean((1, 2), keepdim=True)
    return (cells - mean).square().sum(0).mean().sqrt().clamp_min(_LEAST_SPREAD)


def _contours(cells: Tensor) -> Tensor:
    """How strong a contour runs between each cell of ``(C, h, w)`` and the one to its right.

    The means of windows on the two sides are compared, as in the gradients of Martin, Fowlkes
    and Malik (2004): one cell that differs is no contour, a row of them is.

    Returns:
        ``(h, w - 1)``, from 0 to 1.
    """
    reach, inner = _CONTOUR_BREADTH // 2, _CONTOUR_DEPTH - 1
    padded = functional.pad(cells[None], (inner, inner, reach, reach), mode="replicate")
    windows = functional.avg_pool2d(padded, (_CONTOUR_BREADTH, _CONTOUR_DEPTH), stride=1)[0]
    # Window j covers cells j - inner .. j; the one to its right starts at cell j + 1.
    left, right = windows[..., : cells.shape[2] - 1], windows[..., _CONTOUR_DEPTH:]
    return -torch.expm1(-(right - left).square().sum(0))


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
