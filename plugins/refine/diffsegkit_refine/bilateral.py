"""Joint bilateral upsampling: each pixel asks the cells around it that look like it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Assigner, Proposals
from diffsegkit.assigners import guide_images
from diffsegkit.kernels import upsampled_argmax
from diffsegkit_refine.checks import check_count, check_positive
from diffsegkit_refine.soft import soft_masks


class BilateralAssigner(Assigner):
    """Proposals upsampled with the image as guide (Kopf et al., SIGGRAPH 2007).

    A pixel takes the mean of the cells around it, weighted by their distance and by how alike the
    pixel's and the cell's colours are. The largest proposal wins.

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
        radius: int = 2,
        sigma_space: float = 1.0,
        sigma_colour: float = 0.1,
        max_side: int = 512,
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
        guide: ``(C, H, W)``, at least as large.
        radius: In cells.
        sigma_space: In cells.
        sigma_colour: In units of the guide.

    Returns:
        ``(K, H, W)``; sums over K are kept.
    """
    height, width = values.shape[1:]
    size = guide.shape[1:]
    colours = functional.adaptive_avg_pool2d(guide, (height, width))
    # Where each pixel's centre lies, in cells, and the cell it lies in.
    rows = (torch.arange(size[0], device=guide.device) + 0.5) * height / size[0] - 0.5
    columns = (torch.arange(size[1], device=guide.device) + 0.5) * width / size[1] - 0.5
    near_row, near_column = rows.round().long(), columns.round().long()
    total = torch.zeros(len(values), *size, dtype=values.dtype, device=values.device)
    weights = torch.zeros(*size, dtype=values.dtype, device=values.device)
    for down in range(-radius, radius + 1):
        row = near_row + down
        for right in range(-radius, radius + 1):
            column = near_column + right
            inside = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
            at_row, at_column = row.clamp(0, height - 1), column.clamp(0, width - 1)
            distance = (rows - row).square()[:, None] + (columns - column).square()
            contrast = (guide - colours[:, at_row][:, :, at_column]).square().sum(0)
            weight = torch.exp(-distance / (2 * sigma_space**2) - contrast / (2 * sigma_colour**2))
            # A pixel unlike all cells around would be divided by nothing: its nearest cells count.
            weight = (weight + 1e-6 * torch.exp(-distance / (2 * sigma_space**2))) * inside
            total.addcmul_(values[:, at_row][:, :, at_column], weight)
            weights += weight
    return total / weights
