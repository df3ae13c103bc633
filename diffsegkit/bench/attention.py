"""Attention to measure with: of Stable Diffusion's shapes, with regions that can be merged."""

from collections.abc import Sequence

import torch
from torch import Tensor

_REGIONS = 8
_WITHIN_REGION = 3.0  # added to the logits
_ROWS = 256


def sides_of(tokens: int) -> list[int]:
    """The sides of the four grids of Stable Diffusion's UNet, finest first.

    Args:
        tokens: Locations of the finest, a square number.

    Example:
        >>> sides_of(4096)
        [64, 32, 16, 8]
    """
    side = round(tokens**0.5)
    return [max(1, side // 2**level) for level in range(4)]


def region_attention(sides: Sequence[int], images: int, device: torch.device) -> dict[int, Tensor]:
    """Attention at several grids, of images that have eight regions each.

    A location attends more to its own region, and noisily. The values are the same on every
    device.

    Args:
        sides: Of square grids, in cells.
        images: How many, B.
        device: Where to.

    Returns:
        ``(B, side^2, side^2)`` float32 by side; rows sum to 1.
    """
    return {side: _fill(side, images).to(device) for side in sides}


def _fill(side: int, images: int) -> Tensor:
    maps = torch.empty(images, side**2, side**2)
    axis = (torch.arange(side) + 0.5) / side
    places = torch.cartesian_prod(axis, axis)
    for image, own in enumerate(maps):
        # The centres are drawn first, so they are the same on every grid.
        generator = torch.Generator().manual_seed(image)
        centres = torch.rand(_REGIONS, 2, generator=generator)
        region = torch.cdist(places, centres).argmin(1)
        # A few rows at a time, because what inputs leave behind could be taken for free memory.
        for rows, regions in zip(torch.split(own, _ROWS), torch.split(region, _ROWS), strict=True):
            rows.normal_(generator=generator)
            rows.add_(regions[:, None] == region, alpha=_WITHIN_REGION)
            torch.softmax(rows, 1, out=rows)
    return maps
