"""Read a variable of a MATLAB file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat  # type: ignore[import-untyped]

from diffsegkit.errors import ImageError


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Read one variable.

    Args:
        path: A ``.mat`` file up to version 7.
        variable: Its name.

    Returns:
        Its value.

    Raises:
        ImageError: If there is no such file or variable, or the file is damaged.
    """
    if not path.is_file():
        raise ImageError(f"There is no label file {str(path)!r}.")
    try:
        content = loadmat(path, variable_names=[variable])
    # What scipy raises on damaged data is not documented.
    except Exception as error:
        raise ImageError(
            f"The label file {str(path)!r} is damaged or not from MATLAB ({error}); copy it again."
        ) from error
    if variable not in content:
        raise ImageError(f"The label file {str(path)!r} has no variable {variable!r}.")
    return np.asarray(content[variable])
