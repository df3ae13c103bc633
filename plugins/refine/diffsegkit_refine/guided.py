"""Guided filter: segments that are, in every window, linear in the image's colours."""

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import Assigner
from diffsegkit.assigners import RefiningAssigner
from diffsegkit_refine.checks import check_count, check_positive


class GuidedFilterAssigner(RefiningAssigner):
    """Segments filtered with the image as guide (He et al., Guided Image Filtering, PAMI 2013).

    In every window the mask of a segment is fitted as a linear function of the colour, which
    carries edges of the image over; the largest wins. The time does not depend on the window's
    size. The defaults were chosen on 104 photos.

    Args:
        radius: Half the side of the window, in pixels.
        epsilon: How much a colour must vary in a window, as a variance, to count as an edge.
        assigner: Whose result is refined; ``ArgmaxAssigner`` by default.
        max_side: The longer side, in pixels, at which segments are refined at the most.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If there are no images to look at (when called).
    """

    def __init__(
        self,
        radius: int = 32,
        epsilon: float = 1e-4,
        assigner: Assigner | None = None,
        max_side: int = 256,
    ) -> None:
        super().__init__(assigner, max_side)
        self.radius = check_count("radius", radius)
        self.epsilon = check_positive("epsilon", epsilon)

    def refine(self, masks: Tensor, image: Tensor) -> Tensor:
        """Filter the segments of one image; see :func:`guided_filter`.

        Args:
            masks: ``(K, h, w)``.
            image: ``(3, h, w)`` in [0, 1].
        """
        return guided_filter(masks, image, self.radius, self.epsilon)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"radius={self.radius}, epsilon={self.epsilon}, {super().extra_repr()}"


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
        ``(K, h, w)``, in the dtype of the values, whose range it may leave a little. Sums over K
        are kept.

    Example:
        >>> import torch
        >>> image = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]).expand(3, 8, 8)
        >>> mask = torch.zeros(1, 8, 8)
        >>> mask[:, :, :3] = 1  # one column short of the edge
        >>> (guided_filter(mask, image, 3, 1e-4) > 0.5)[0, 4].tolist()
        [True, True, True, True, False, False, False, False]
    """
    # Sums of products of colours lose digits, so all is done in float64.
    colours, wide = guide.double(), values.double()
    channels, height, width = colours.shape
    # Only contrast counts, and around zero its squares lose least.
    colours = colours - colours.mean((1, 2), keepdim=True)
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
