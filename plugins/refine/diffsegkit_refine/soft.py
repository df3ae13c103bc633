"""Proposals as shares of each pixel."""

from torch import Tensor
from torch.nn import functional

from diffsegkit import Proposals


def soft_masks(proposals: Proposals, size: tuple[int, int]) -> Tensor:
    """What share of each pixel each proposal has, after bilinear upsampling.

    Args:
        proposals: K of them.
        size: ``(h, w)`` in pixels.

    Returns:
        ``(K, h, w)`` float32; the K shares of a pixel add up to 1.
    """
    compared = proposals.compared.float()
    # Scores may be of any sign; shares are of what lies above the least.
    above = compared - compared.amin().clamp_max(0)
    upsampled: Tensor = functional.interpolate(
        above[None], size=size, mode="bilinear", align_corners=False
    )[0]
    total = upsampled.sum(0, keepdim=True)
    even = 1 / len(proposals)
    # Where no proposal has anything, none has more than another.
    return (upsampled / total.clamp_min(1e-30)).where(total > 0, even)
