"""Segments drawn over the photo."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit.images.geometry import CropBox
from diffsegkit.images.loading import ImageLike, load_image
from diffsegkit.visualization.palette import neighbour_colours


def draw_overlay(
    image: ImageLike,
    labels: Tensor,
    *,
    crop_box: CropBox | None = None,
    opacity: float = 0.5,
    names: Sequence[str] | None = None,
) -> Image.Image:
    """Colour the segments of an image and outline them in white on black.

    Args:
        image: The image, of any kind the segmenter takes; if it is larger than ``labels``, the
            crop box says which part of it they cover.
        labels: ``(H, W)`` integer ids 0..K-1.
        crop_box: Left, top, right, bottom in pixels.
        opacity: Of the colours, 0 to 1.
        names: K names, to write on the segments.

    Returns:
        An RGB picture of the size of ``labels``.

    Raises:
        ValueError: If the sizes do not agree or the opacity is out of range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected argument `opacity` between 0 and 1, but got {opacity}.")
    photo = load_image(image)
    if crop_box is not None and photo.shape[1:] != labels.shape:
        left, top, right, bottom = crop_box
        photo = photo[:, top:bottom, left:right]
    if photo.shape[1:] != labels.shape:
        raise ValueError(
            f"Expected the image that was segmented, {tuple(labels.shape)} pixels (height, "
            f"width), but got one of {tuple(photo.shape[1:])}."
        )
    ids = labels.cpu().numpy()
    table = neighbour_colours(ids)
    line = max(1, round(max(ids.shape) / 800))
    light, dark = _outlines(ids, line)
    picture = np.empty((*ids.shape, 3), dtype=np.uint8)
    # In strips of rows: as float, a 100-megapixel photo is 1.2 GiB.
    for start in range(0, len(ids), 512):
        rows = slice(start, start + 512)
        pixels = _as_uint8(photo[:, rows]).astype(np.float32)
        picture[rows] = np.rint(pixels + (table[ids[rows]] - pixels) * opacity)
    picture[dark] = 0
    picture[light] = 255
    drawn = Image.fromarray(picture)
    if names is not None:
        _write_names(drawn, ids, names)
    return drawn


def _write_names(picture: Image.Image, ids: NDArray[np.integer], names: Sequence[str]) -> None:
    """Each name where its segment is widest, white on black and whole; changes the picture."""
    draw = ImageDraw.Draw(picture)
    size = max(10.0, max(ids.shape) / 40)
    font = ImageFont.load_default(size)
    # Where a segment is widest need not be known to the pixel.
    step = max(1, max(ids.shape) // 256)
    coarse = np.pad(ids[::step, ::step], 1, constant_values=-1)
    for label, name in enumerate(names):
        depth = distance_transform_edt(coarse == label)
        if depth.any():
            # A stripe is as wide everywhere: then its middle, where fewer names meet.
            widest = np.argwhere(depth == depth.max())
            row, column = widest[((widest - widest.mean(0)) ** 2).sum(1).argmin()]
            at = ((int(column) - 1) * step, (int(row) - 1) * step)
        else:  # it lies between the samples
            pixels = np.flatnonzero(ids == label)
            row, column = np.unravel_index(pixels[len(pixels) // 2], ids.shape)
            at = (int(column), int(row))
        text = " ".join(name.split())  # what has several lines cannot be anchored in its middle
        box = draw.textbbox(at, text, font=font, anchor="mm", stroke_width=2)
        at = (
            at[0] + _inwards(box[0], box[2], picture.width),
            at[1] + _inwards(box[1], box[3], picture.height),
        )
        draw.text(
            at, text, fill="white", font=font, anchor="mm", stroke_width=2, stroke_fill="black"
        )


def _inwards(start: float, end: float, length: int) -> int:
    """How far to move what goes from start to end into 0..length; its start, if it is longer."""
    if start < 0:
        return int(np.ceil(-start))
    return -int(np.ceil(max(0.0, min(start, end - length))))


def _as_uint8(image: Tensor) -> NDArray[np.uint8]:
    if image.dtype != torch.uint8:
        image = (image * 255).round().to(torch.uint8)
    pixels: NDArray[np.uint8] = image.permute(1, 2, 0).cpu().numpy()
    return pixels


def _outlines(ids: NDArray[np.integer], line: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A white line along each border and a black one on its far side: visible on any photo."""
    light, dark = np.zeros(ids.shape, dtype=bool), np.zeros(ids.shape, dtype=bool)
    for axis in (0, 1):
        along = np.moveaxis(ids, axis, 0)
        for step in range(1, 2 * line + 1):
            if step >= len(along):
                break
            differs = along[step:] != along[:-step]
            target = np.moveaxis(light if step <= line else dark, axis, 0)
            target[:-step] |= differs
    return light, dark
