"""Guided filter: proposals as local linear functions of the image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Assigner, Proposals
from diffsegkit.assigners import guide_images
from diffsegkit.kernels import upsampled_argmax
from diffsegkit_refine.checks import check_count, check_positive
from diffsegkit_refine.soft import soft_masks


class GuidedFilterAssigner(Assigner):
    """Proposals upsampled with the image as guide (He et al., Guided Image Filtering, PAMI 2013).

    The proposals are upsampled bilinearly and normalised over each other, so that each pixel has a
    share of each; in every window the shares are fitted as a linear function of the colour, which
    carries edges of the image over. The largest share wins. The time does not depend on the
    window's size.

    Args:
        radius: Half the side of the window, in pixels at ``max_side``.
        epsilon: How much a colour must vary in a window, as a variance, to count as an edge.
        max_side: The longer side, in pixels, at which this is done at the most.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If there are no images to look at (when called).
    """

    def __init__(self, radius: int = 16, epsilon: float = 1e-3, max_side: int = 512) -> None:
        super().__init__()
        self.radius = check_count("radius", radius)
        self.epsilon = check_positive("epsilon", epsilon)
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
            masks = soft_masks(own, (image.shape[1], image.shape[2]))
            filtered = guided_filter(masks, image, self.radius, self.epsilon)
            labels.append(upsampled_argmax(filtered, size))
        return torch.stack(labels)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"radius={self.radius}, epsilon={self.epsilon}, max_side={self.max_side}"


def guided_filter(values: Tensor, guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """Filter values with a colour image as guide.

    In each window the values are fitted as ``a . colour + b`` by ridge regression; a pixel gets the
    mean of what the windows that cover it say. Windows are cut at the border.

    Args:
        values: ``(K, h, w)``, floating point.
        guide: ``(C, h, w)``.
        radius: Half the side of a window, in pixels; a window has ``2 * radius + 1`` of them.
        epsilon: The ridge: what is added to the colours' variances.

    Returns:
        ``(K, h, w)``, in the dtype of the values. Sums over K are kept.

    Example:
        >>> import torch
        >>> flat = guided_filter(torch.ones(1, 4, 5), torch.rand(3, 4, 5), 2, 1e-3)
        >>> torch.allclose(flat, torch.ones(1, 4, 5))
        True
    """
    # Sums of products of colours lose digits, so all is done in float64.
    colours, wide = guide.double(), values.double()
    channels, height, width = colours.shape
    mean = _box_mean(colours, radius)
    products = (colours[:, None] * colours[None]).flatten(0, 1)
    covariance = _box_mean(products, radius) - (mean[:, None] * mean[None]).flatten(0, 1)
    matrices = covariance.reshape(channels, channels, height, width).permute(2, 3, 0, 1)
    ridge = epsilon * torch.eye(channels, dtype=torch.float64, device=guide.device)
    inverse = torch.linalg.inv(matrices + ridge)
    filtered = torch.empty_like(wide)
    # One by one: a hundred masks of a large image would need gigabytes at once.
    for own, out in zip(wide, filtered, strict=True):
        own_mean = _box_mean(own[None], radius)
        joint = _box_mean(colours * own, radius) - mean * own_mean
        slope = torch.einsum("hwij,jhw->ihw", inverse, joint)
        offset = own_mean[0] - (slope * mean).sum(0)
        out.copy_((_box_mean(slope, radius) * colours).sum(0) + _box_mean(offset[None], radius)[0])
    return filtered.to(values.dtype)


def _box_mean(values: Tensor, radius: int) -> Tensor:
    """The mean over the window around each pixel, cut at the border; ``(C, h, w)``."""
    for axis in (1, 2):
        length = values.shape[axis]
        sums = functional.pad(
            values.cumsum(axis), (0, 0, 1, 0) if axis == 1 else (1, 0), mode="constant"
        )
        index = torch.arange(length, device=values.device)
        after = (index + radius + 1).clamp_max(length)
        before = (index - radius).clamp_min(0)
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        total = sums.index_select(axis, after) - sums.index_select(axis, before)
        values = total / (after - before).reshape(shape)
    return values
