"""Files that are whole or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under another name first, so that no half of it ever has its name.

    Args:
        path: The file; its folder is made if need be.
        write: Writes the contents into the open file.

    Raises:
        OSError: If it cannot be written; the error names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            write(file)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside a file, under which it can be written.

    Args:
        path: The file.
    """
    # The name is short, because that of a photo may be as long as names can be.
    return path.with_name(f".diffsegkit-{uuid4().hex}")
