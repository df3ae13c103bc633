"""From paths, folders and globs to photos with distinct names."""

import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from diffsegkit.errors import UsageError
from diffsegkit.segmentation import Segmentation


@dataclass(frozen=True)
class Photo:
    """A photo to segment.

    Args:
        path: Where it is.
        stem: What its output files are called.
    """

    path: Path
    stem: str


def find_photos(arguments: Sequence[str]) -> tuple[list[Photo], list[str]]:
    """Resolve what was given on the command line.

    Args:
        arguments: Files, folders (their images, not those of folders in them) and globs
            (``**`` for folders in folders).

    Returns:
        The photos, each once, and a sentence for each argument that leads nowhere.

    Raises:
        UsageError: If no argument leads anywhere, or two photos would write the same files.
    """
    paths: list[Path] = []
    problems: list[str] = []
    for argument in arguments:
        found = _resolve(argument)
        if isinstance(found, str):
            problems.append(found)
        else:
            paths.extend(found)
    if not paths:
        raise UsageError(" ".join(problems) or "There is no photo; name a file, folder or glob.")
    unique = list({path.resolve(): path for path in paths}.values())
    by_stem: dict[str, Path] = {}
    for path in unique:
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise UsageError(
                f"{str(other)!r} and {str(path)!r} would both write '{path.stem}_labels.png'; "
                "rename one, or run them with different --out."
            )
    return [Photo(path, path.stem) for path in unique], problems


def check_outputs(photos: Sequence[Photo], directory: Path) -> None:
    """Be sure that no photo, and no file of somebody else's, would be overwritten.

    Args:
        photos: What is to be segmented.
        directory: Where results go.

    Raises:
        UsageError: If a result would have the name of a photo, or of a file that is there and is
            no result.
    """
    inputs = {photo.path.resolve() for photo in photos}
    for photo in photos:
        outputs = Segmentation.paths(directory, photo.stem)
        beside = photo.path.resolve().parent == directory.resolve()
        ours = bool(read_record(outputs[-1]))
        for output in outputs:
            # Elsewhere a label map without its record is what an interruption left.
            foreign = _exists(output) and not ours and (beside or output.suffix == ".json")
            if foreign or output.resolve() in inputs:
                raise UsageError(
                    f"Segmenting {str(photo.path)!r} would overwrite {str(output)!r}, which is not "
                    "a result of diffsegkit; choose another --out."
                )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long is nobody's
        return False


def _resolve(argument: str) -> list[Path] | str:
    """The files behind one argument, or what is wrong with it."""
    if not argument:
        return "There is no file or folder without a name."
    path = Path(argument).expanduser()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        return f"There is no file or folder {argument!r}: {error}."
    if path.is_symlink() and not path.exists():
        return f"The link {argument!r} leads nowhere."
    if path.is_dir():
        images = _images_in(path)
        return images or f"There is no image in the folder {argument!r}."
    if path.exists():
        return [path]
    if glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        files = [match for match in matches if match.is_file() and not _is_output(match)]
        return files or f"No file matches {argument!r}."
    return f"There is no file or folder {argument!r}."


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder by name, without hidden files and what an earlier run wrote."""
    Image.init()
    known = Image.registered_extensions()
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in known
        and not path.name.startswith(".")
        and path.is_file()
        and not _is_output(path)
    ]


def _is_output(path: Path) -> bool:
    """Whether an earlier run wrote this file."""
    for suffix in ("_labels.png", "_overlay.png"):
        if path.name.endswith(suffix):
            return bool(read_record(path.with_name(path.name.removesuffix(suffix) + ".json")))
    return bool(read_record(path))


def read_record(path: Path) -> dict[str, Any]:
    """The JSON of a result, or nothing if the file is missing or something else.

    Args:
        path: ``<stem>.json``.
    """
    if path.suffix != ".json":
        return {}
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "diffsegkit" in record else {}
