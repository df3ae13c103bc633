"""From a photo's own size to the size a source wants."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Resize = Literal["fit", "square", "crop"]
"""``fit`` keeps the aspect ratio, ``square`` squashes, ``crop`` takes the centre square."""

CropBox = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""


def centre_crop(size: tuple[int, int]) -> CropBox:
    """The centre square, as the original cuts it.

    Args:
        size: ``(H, W)`` in pixels.

    Returns:
        A box of side ``min(H, W)``.

    Example:
        >>> centre_crop((300, 451))
        (75, 0, 375, 300)
    """
    height, width = size
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return left, top, left + side, top + side


def input_size(
    size: tuple[int, int], image_size: int, resize: Resize, multiple: int
) -> tuple[int, int]:
    """The size at which a source sees an image.

    Args:
        size: ``(H, W)`` of the image (of the crop, for ``"crop"``), in pixels.
        image_size: The longer side asked for, in pixels.
        resize: How the aspect ratio is treated.
        multiple: Both sides become multiples of this many pixels, at least one.

    Returns:
        ``(H, W)`` in pixels.

    Example:
        >>> input_size((300, 451), 512, "fit", multiple=64)
        (320, 512)
    """
    longer = max(size)
    sides = size if resize == "fit" else (longer, longer)
    height, width = (
        max(1, (2 * side * image_size + longer * multiple) // (2 * longer * multiple)) * multiple
        for side in sides
    )
    return height, width


def resize_image(image: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    """Resize bilinearly with half-pixel centres.

    Args:
        image: ``(3, H, W)``, uint8 or float in [0, 1].
        size: ``(H, W)`` wanted, in pixels.
        antialias: Whether shrinking averages over all pixels. The original does not.

    Returns:
        ``(3, H, W)`` float32 in [0, 1].
    """
    scale = 255 if image.dtype == torch.uint8 else 1
    # One channel at a time: as float, a 100-megapixel photo is 1.2 GiB.
    channels = [
        functional.interpolate(
            channel[None, None].float(), size=size, mode="bilinear", antialias=antialias
        )[0, 0]
        for channel in image
    ]
    return (torch.stack(channels) / scale).clamp_(0, 1)
