"""List the files of a data set by the ids of their samples."""

from collections.abc import Collection
from pathlib import Path

from PIL import Image

from diffsegkit.errors import DatasetError


def image_suffixes() -> frozenset[str]:
    """The suffixes of the image files that Pillow reads, in lower case."""
    Image.init()
    return frozenset(Image.registered_extensions())


def list_files(
    folder: Path, suffixes: Collection[str], *, ending: str = "", recursive: bool = False
) -> dict[str, Path]:
    """The files of a folder by id.

    Args:
        folder: Where to look. Hidden files are passed over (archives made on a Mac hold
            ``._name.png`` beside ``name.png``).
        suffixes: Which suffixes count, in lower case.
        ending: What a name must end with before its suffix; it is no part of the id.
        recursive: Whether folders in the folder count; an id is then a path.

    Returns:
        Paths by id, where an id is the path below the folder without ``ending`` and suffix.

    Raises:
        DatasetError: If two files have one id.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        below = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        if any(part.startswith(".") for part in below.parts) or not path.is_file():
            continue
        identity = below.with_suffix("").as_posix().removesuffix(ending)
        other = found.setdefault(identity, path)
        if other is not path:
            raise DatasetError(
                f"{str(other)!r} and {str(path)!r} have one id, {identity!r}; rename or remove one."
            )
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without the blanks around them.

    Args:
        path: A file in UTF-8.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"The list {str(path)!r} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip()]
