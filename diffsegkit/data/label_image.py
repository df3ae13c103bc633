"""Read the numbers of a label image."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffsegkit.errors import ImageError


def read_label_image(path: Path) -> NDArray[np.integer[Any]]:
    """Read a label image as it is stored, without any conversion of its values.

    Args:
        path: A PNG, or another image without losses: grey of up to 32 bits, with a palette, or
            coloured.

    Returns:
        ``(H, W)`` of an integer type: grey values or palette indices; or ``(H, W, 3)`` uint8, the
        colours.

    Raises:
        ImageError: If it cannot be read, or is of another kind.
    """
    if not path.is_file():
        raise ImageError(f"There is no label image {str(path)!r}.")
    try:
        # Label maps of aerial photos are larger than what Pillow warns of.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                mode = opened.mode
                values = np.asarray(opened)
    # What a decoder raises on damaged data is not documented.
    except Exception as error:
        raise ImageError(
            f"The label image {str(path)!r} is damaged or no image ({error}); copy it again."
        ) from error
    if mode == "RGBA" and bool((values[..., 3] == 255).all()):
        values = values[..., :3]
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "iu" or values.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"Expected the label image {str(path)!r} to be grey, with a palette, or RGB, but its "
            f"mode is {mode}; save it as a PNG of one of these kinds."
        )
    return values
