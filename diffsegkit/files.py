"""Files that are whole or absent, and folders that take them."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from uuid import uuid4

from diffsegkit.errors import UsageError

TEMPORARY_PREFIX = ".diffsegkit-"
"""How the names of files begin that are being written."""


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
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid4().hex}")


def writable_folder(folder: str, name: str) -> Path:
    """Make a folder, and be sure that it takes files, before any work is done.

    Args:
        folder: Where; ``~`` is the user's own.
        name: What to call it in the message, such as ``"--out"``.

    Raises:
        UsageError: If it is a file, or cannot be written to.
    """
    directory = Path(folder).expanduser()
    if not folder:
        raise UsageError(f"Expected {name} to be a folder, but got no name.")
    try:
        if directory.exists() and not directory.is_dir():
            raise UsageError(f"Expected {name} to be a folder, but {folder!r} is a file.")
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(
            f"Expected {name} to be a folder that can be written to, but {folder!r} is not: "
            f"{error.strerror}."
        ) from error
    return directory
