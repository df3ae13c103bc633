"""The original's preparation of an image and its labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.images import centre_crop, resize_image


def crop_and_resize(
    image: Tensor, annotations: Sequence[Tensor], side: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Cut out the centre square and bring it to one size, as the original's evaluation does.

    The image is resized bilinearly with half-pixel centres and without antialiasing; labels take
    the value at index ``floor((i + 0.5) * scale)``, which PyTorch calls ``nearest-exact``.

    Args:
        image: ``(3, H, W)``, uint8 or float in [0, 1].
        annotations: Each ``(H, W)``.
        side: Of the result, in pixels.

    Returns:
        ``(3, side, side)`` float32 in [0, 1], and each annotation ``(side, side)``.
    """
    height, width = image.shape[1:]
    left, top, right, bottom = centre_crop((height, width))
    square = resize_image(image[:, top:bottom, left:right], (side, side), antialias=False)
    # In integers: in floating point the index is off by one where (i + 0.5) * scale is whole.
    steps = ((2 * torch.arange(side) + 1) * (right - left)) // (2 * side)
    return square, tuple(each[top + steps][:, left + steps] for each in annotations)
