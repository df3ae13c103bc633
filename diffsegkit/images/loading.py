"""Read images of every common kind into RGB tensors."""

import warnings
from collections.abc import Iterable, Iterator
from math import isfinite
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from diffsegkit.errors import ImageError

ImageLike: TypeAlias = str | PathLike[str] | Image.Image | NDArray[np.generic] | Tensor
"""A path, a PIL image, an array ``(H, W)`` or ``(H, W, C)``, or a tensor ``(C, H, W)``."""

_MAX_PIXELS = 200_000_000
"""Larger images are refused before they are decoded: they need gigabytes, or are an attack."""


_ROUNDING = 1e-3


def load_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[Tensor]:
    """Load one image or many, one at a time.

    Args:
        images: One image of any kind that :func:`load_image` takes, a batch (a tensor
            ``(B, C, H, W)`` or an array ``(B, H, W, C)``), or an iterable of images, whose sizes
            may differ.

    Yields:
        One tensor per image, as :func:`load_image` gives it.

    Raises:
        ImageError: If one cannot be read.
    """
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 4:
        yield from map(load_image, images)
    elif isinstance(images, str | PathLike | Image.Image | np.ndarray | Tensor):
        yield load_image(images)
    elif isinstance(images, Iterable):
        yield from map(load_image, images)
    else:
        yield load_image(images)  # raises, and says what an image may be


def load_image(image: ImageLike) -> Tensor:
    """Load one image.

    The orientation in EXIF data is applied, transparency is laid over white, grey becomes RGB,
    and of an animation the first frame is taken (of a PIL image, the one it stands at), with a
    warning.

    Args:
        image: A path; a PIL image of any mode; an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)``
            or ``(H, W, 4)`` of uint8, uint16 or float in [0, 1]; or a tensor ``(C, H, W)`` or
            ``(H, W)`` of these dtypes with C in 1, 3, 4.

    Returns:
        ``(3, H, W)`` RGB on the CPU (tensors stay on their device): uint8, or float32 in [0, 1]
        where the input has more than 8 bits.

    Raises:
        ImageError: If it cannot be read or is none of these.

    Example:
        >>> import numpy as np
        >>> load_image(np.zeros((4, 6), dtype=np.uint8)).shape
        torch.Size([3, 4, 6])
    """
    if isinstance(image, str | PathLike):
        return _from_path(Path(fspath(image)))
    if isinstance(image, Image.Image):
        try:
            return _from_pil(image, "the image")
        except ImageError:
            raise
        except Exception as error:  # what decoders raise is not documented
            raise ImageError(f"The image cannot be decoded: {error}") from error
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    raise ImageError(
        "Expected an image to be a path, a PIL image, a NumPy array or a tensor, but got "
        f"{type(image).__name__}."
    )


def _from_path(path: Path) -> Tensor:
    if not path.exists():
        raise ImageError(f"There is no file {str(path)!r}.")
    if path.is_dir():
        raise ImageError(f"Expected an image file, but {str(path)!r} is a folder.")
    if path.stat().st_size == 0:
        raise ImageError(f"The file {str(path)!r} is empty.")
    try:
        # Pillow warns above 89 megapixels; the limit that counts here is ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened:
            return _from_pil(opened, repr(str(path)))
    except ImageError as error:
        named = repr(str(path)) in str(error)
        raise error if named else ImageError(f"{str(path)!r}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{str(path)!r} is not an image that Pillow can read; convert it to JPEG or PNG."
        ) from error
    except PermissionError as error:
        raise ImageError(f"The file {str(path)!r} may not be read: permission denied.") from error
    # What a decoder raises on damaged data is not documented; struct.error, IndexError and
    # SyntaxError have all been seen.
    except Exception as error:
        raise ImageError(
            f"{str(path)!r} is damaged or not a supported image ({error}); save it again."
        ) from error


def _from_pil(image: Image.Image, name: str) -> Tensor:
    if image.width * image.height > _MAX_PIXELS:
        raise ImageError(
            f"{name} has {image.width}x{image.height} pixels; diffsegkit takes up to "
            f"{_MAX_PIXELS // 1_000_000} megapixels. Make it smaller first."
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        frame = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"
        warnings.warn(f"{name} has {frames} frames; {frame} is used.", stacklevel=2)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_array(_deep_grey(np.asarray(image), name))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return _from_array(np.asarray(image.convert("RGB")))


def _deep_grey(values: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """Grey of more than 8 bits (Pillow's modes I;16, I and F) to uint16 or float in [0, 1]."""
    if values.dtype.kind == "f" or values.dtype.itemsize == 2:
        return values
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise ImageError(
            f"{name} has values between {values.min()} and {values.max()}, but an integer image "
            "may hold 0 to 65535; convert it to 16 bits."
        )
    return values.astype(np.uint16)


def _from_array(array: NDArray[np.generic]) -> Tensor:
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        channels_first = array.ndim == 3 and shape[0] in (1, 3, 4)
        hint = "; move the channels last with .transpose(1, 2, 0)" if channels_first else ""
        raise ImageError(
            "Expected an image array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), but got "
            f"{shape}{hint}."
        )
    if array.dtype.type not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise ImageError(
            f"Expected an image array of uint8, uint16 or float, but got {array.dtype}."
        )
    # Native byte order, positive strides and writable memory, as torch wants them.
    native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return _from_channels(torch.from_numpy(native).permute(2, 0, 1))


def _from_tensor(tensor: Tensor) -> Tensor:
    channels = tensor[None] if tensor.ndim == 2 else tensor
    if channels.ndim != 3 or channels.shape[0] not in (1, 3, 4) or channels.numel() == 0:
        hint = (
            "; move the channels first with .permute(2, 0, 1)"
            if channels.ndim == 3 and channels.shape[2] in (1, 3, 4)
            else ""
        )
        raise ImageError(
            "Expected an image tensor of shape (H, W), (1, H, W), (3, H, W) or (4, H, W), but got "
            f"{tuple(tensor.shape)}{hint}."
        )
    if channels.dtype not in (torch.uint8, torch.uint16) and not channels.is_floating_point():
        raise ImageError(
            f"Expected an image tensor of uint8, uint16 or float, but got {tensor.dtype}."
        )
    return _from_channels(channels)


def _from_channels(image: Tensor) -> Tensor:
    """``(C, H, W)`` of uint8, uint16 or float to RGB of uint8 or float32."""
    if image.dtype == torch.uint16:
        image = image.float() / 65535
    elif image.is_floating_point():
        image = _checked_range(image.float())
    if len(image) == 4:
        image = _over_white(image)
    return image.expand(3, -1, -1)


def _checked_range(image: Tensor) -> Tensor:
    low, high = (float(value) for value in torch.aminmax(image))
    if not isfinite(low + high):
        raise ImageError("Expected a float image to be finite, but it contains NaN or infinity.")
    # Resizing may leave a rounding error outside.
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ImageError(
            f"Expected a float image to have values in [0, 1], but got {low:.4g} to {high:.4g}; "
            "divide 8-bit values by 255."
        )
    return image.clamp(0, 1)


def _over_white(image: Tensor) -> Tensor:
    full = 255 if image.dtype == torch.uint8 else 1
    opacity = image[3:].float() / full
    colour = image[:3].float() * opacity + full * (1 - opacity)
    return colour.round().to(image.dtype) if full == 255 else colour
