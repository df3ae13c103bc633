"""Joint bilateral upsampling: each pixel asks the cells around it that look like it."""

from collections.abc import Iterator, Sequence
from math import inf

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Assigner, Proposals
from diffsegkit.assigners import guide_images
from diffsegkit.kernels import upsampled_argmax
from diffsegkit_refine.checks import check_count, check_positive
from diffsegkit_refine.soft import soft_masks

_LEAST_LIKENESS = 1e-6


class BilateralAssigner(Assigner):
    """Proposals upsampled with the image as guide (Kopf et al., SIGGRAPH 2007).

    What is upsampled are not labels but the shares that the proposals have of each cell. A pixel
    takes the mean of the cells around it, weighted by their distance and by how alike the pixel's
    and the cell's colours are. The largest share wins. The defaults were chosen on 104 photos.

    Args:
        radius: How many cells around are asked, in each direction.
        sigma_space: Of the Gaussian of distances, in cells.
        sigma_colour: Of the Gaussian of colours, whose channels are from 0 to 1.
        max_side: The longer side, in pixels, at which this is done at the most.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If there are no images to look at (when called).
    """

    def __init__(
        self,
        radius: int = 3,
        sigma_space: float = 1.5,
        sigma_colour: float = 0.05,
        max_side: int = 256,
    ) -> None:
        super().__init__()
        self.radius = check_count("radius", radius)
        self.sigma_space = check_positive("sigma_space", sigma_space)
        self.sigma_colour = check_positive("sigma_colour", sigma_colour)
        self.max_side = check_count("max_side", max_side)

    @torch.no_grad()
    def forward(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        *,
        aggregated: AggregatedAttention | None = None,
    ) -> Tensor:
        """Assign every pixel of every image.

        Args:
            proposals: One per image, B in all.
            size: ``(H, W)`` in pixels.
            aggregated: Its source has the images.

        Returns:
            ``(B, H, W)`` int64, indices into each image's proposals.
        """
        images = guide_images(aggregated, type(self).__name__, size, self.max_side)
        labels = []
        for own, image in zip(proposals, images, strict=True):
            upsampled = bilateral_upsampling(
                soft_masks(own, own.grid),
                image,
                self.radius,
                self.sigma_space,
                self.sigma_colour,
            )
            labels.append(upsampled_argmax(upsampled, size))
        return torch.stack(labels)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"radius={self.radius}, sigma_space={self.sigma_space}, "
            f"sigma_colour={self.sigma_colour}, max_side={self.max_side}"
        )


def bilateral_upsampling(
    values: Tensor, guide: Tensor, radius: int, sigma_space: float, sigma_colour: float
) -> Tensor:
    r"""Upsample values of cells to the pixels of a guide.

    .. math:: u_p = \frac{\sum_c v_c\, g_s(p - c)\, g_r(x_p - x_c)}{\sum_c g_s g_r}

    over the cells within ``radius`` of the one that the pixel lies in, the colour of a cell being
    the mean over it.

    Args:
        values: ``(K, h, w)``, floating point, on the cells.
        guide: ``(C, H, W)``, floating point.
        radius: In cells.
        sigma_space: In cells.
        sigma_colour: In units of the guide.

    Returns:
        ``(K, H, W)``, in the dtype of the guide; sums over K are kept.

    Example:
        >>> import torch
        >>> cells = torch.tensor([[[1.0, 0.0]]])  # two cells of four pixels each
        >>> image = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(3, 1, 8)
        >>> (bilateral_upsampling(cells, image, 1, 1.0, 0.1) > 0.5)[0, 0].tolist()
        [True, True, True, True, True, False, False, False]
    """
    grid, size = (values.shape[1], values.shape[2]), (guide.shape[1], guide.shape[2])
    values = values.to(guide.dtype)
    colours = functional.adaptive_avg_pool2d(guide, grid)
    sides = zip(grid, size, strict=True)
    rows, columns = (list(_cells_near(*side, radius, guide)) for side in sides)
    total = guide.new_zeros(len(values), *size)
    weights = guide.new_zeros(*size)
    for row, down in rows:
        for column, across in columns:
            distance = down[:, None] + across
            nearness = torch.exp(-distance / (2 * sigma_space**2))
            contrast = (guide - colours[:, row][:, :, column]).square().sum(0)
            # A pixel unlike all cells around would be divided by nothing: its nearest cells count.
            likeness = torch.exp(-contrast / (2 * sigma_colour**2)) + _LEAST_LIKENESS
            weight = nearness * likeness
            total.addcmul_(values[:, row][:, :, column], weight)
            weights += weight
    return total / weights


def _cells_near(
    cells: int, pixels: int, radius: int, like: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """The cells around each pixel of one axis, from one side of it to the other.

    Yields:
        ``(pixels,)`` int64, a cell for each pixel, and ``(pixels,)``, the squared distance of their
        centres in cells: infinite where the cell is beyond the border or not in the window.
    """
    # In cells, 0 being the left border of the first.
    centres = (torch.arange(pixels, device=like.device, dtype=torch.float64) + 0.5) * cells / pixels
    for offset in range(-radius, radius + 1):
        cell = centres.floor().long() + offset
        distance = (centres - cell - 0.5).abs()
        # A pixel between two cells is said to lie in the right one. It does without the farthest on
        # that side, or it would see more there than on the left.
        inside = (cell >= 0) & (cell < cells) & (distance < radius + 0.5 - 1e-6)
        if inside.any():
            squared = distance.square().masked_fill(~inside, inf).to(like.dtype)
            yield cell.clamp(0, cells - 1), squared
