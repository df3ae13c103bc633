"""Whether a file holds what its name says; of weights the header alone is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffsegkit.errors import WeightsError

_MAX_HEADER = 100_000_000  # what the format allows
_AGAIN = "copy or download it again"


def check_file(path: Path) -> None:
    """Look at one file of a model.

    Args:
        path: The file.

    Raises:
        WeightsError: If it is absent, empty, truncated, or something else than its name says.
    """
    if path.suffix == ".safetensors":
        read_header(path)
    elif path.suffix == ".json":
        read_json(path)
    else:
        _read_start(path)


def check_safetensors(path: str | Path) -> None:
    """Look at the header of a file of weights: is it one, and is all of it there?

    Args:
        path: A ``.safetensors`` file.

    Raises:
        WeightsError: If it is absent, empty, truncated, or something else.
    """
    read_header(Path(path).expanduser())


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, without their values.

    Args:
        path: The file.

    Returns:
        Type, shape and position of each tensor by its name, as the file describes them.

    Raises:
        WeightsError: If it is absent, empty, truncated, or something else.
    """
    start = _read_start(path)
    size = path.stat().st_size
    length = int.from_bytes(start[:8], "little")
    if size < 8 or (length <= _MAX_HEADER and start[8:9] in (b"{", b"") and 8 + length > size):
        raise WeightsError(
            f"{str(path)!r} is truncated: it has {size} bytes, fewer than its header alone needs; "
            f"{_AGAIN}."
        )
    if length > _MAX_HEADER or start[8:9] != b"{":
        raise WeightsError(_not_safetensors(path, start))
    with _open(path) as file:
        file.seek(8)
        text = file.read(length)
    try:
        header = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        promised = (
            8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        )
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise WeightsError(
            f"{str(path)!r} is damaged: the header of a safetensors file was expected, but it "
            f"cannot be read ({_short(error)}); {_AGAIN}."
        ) from error
    if size != promised:
        what = "truncated" if size < promised else "damaged"
        raise WeightsError(
            f"{str(path)!r} is {what}: it has {size} bytes, but its header promises {promised}; "
            f"{_AGAIN}."
        )
    _check_with_library(path)
    return tensors


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The content of a JSON file.

    Args:
        path: The file.

    Raises:
        WeightsError: If it is absent, empty, or no JSON.
    """
    _read_start(path)
    try:
        with _open(path) as file:
            return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{str(path)!r} is damaged: JSON was expected, but it cannot be read "
            f"({_short(error)}); {_AGAIN}."
        ) from error


def _read_start(path: Path) -> bytes:
    """The first bytes, if they may be those of such a file."""
    with _open(path) as file:
        start: bytes = file.read(512)
    if not start:
        raise WeightsError(f"{str(path)!r} is empty; {_AGAIN}.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{str(path)!r} is a Git LFS pointer, not the file itself: run `git lfs pull` in that "
            "folder, with git-lfs installed."
        )
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(
            f"{str(path)!r} is a web page, not the file itself: download it again, on the hub from "
            "the address with /resolve/ in place of /blob/."
        )
    return start


def _open(path: Path) -> Any:  # noqa: ANN401
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        what = "is a link to a file that is not there" if path.is_symlink() else "is missing"
        raise WeightsError(f"{str(path)!r} {what}; {_AGAIN}.") from error
    except IsADirectoryError as error:
        raise WeightsError(f"Expected {str(path)!r} to be a file, but it is a folder.") from error
    except OSError as error:
        raise WeightsError(
            f"{str(path)!r} cannot be read ({error.strerror}); check its permissions."
        ) from error


def _check_with_library(path: Path) -> None:
    """What else the format demands of a header, such as tensors without gaps between them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{str(path)!r} is damaged: it is no valid safetensors file ({_short(error)}); "
            f"{_AGAIN}."
        ) from error


def _not_safetensors(path: Path, start: bytes) -> str:
    kind = ""
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        kind = ", but a PyTorch checkpoint (which can run code)"
    elif start.startswith(b"GGUF"):
        kind = ", but a GGUF file"
    return (
        f"{str(path)!r} is not a safetensors file{kind}: save the weights with safetensors, or "
        "copy or download the file again."
    )


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 100 else f"{text[:97]}..."
