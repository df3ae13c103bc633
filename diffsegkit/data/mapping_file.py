"""Read a mapping from values or colours to classes that a user wrote."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.sample import IGNORE
from diffsegkit.errors import DatasetError
from diffsegkit.parsing import did_you_mean

_IGNORE = "ignore"
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")


def read_mapping(path: Path, class_names: Sequence[str] = ()) -> ClassMapping:
    """Read a mapping from a JSON, YAML or CSV file.

    It is either a list of class names, where the position is the stored value::

        [road, car, tree]

    or says for each stored value, or colour, which class it is, by name or index, or that it is
    to be ignored (a colour in YAML stands in quotes, or it would be a comment)::

        classes: [road, car]       # optional: the order of the classes
        7: road
        "#00008e": car
        255: ignore
        unlisted: ignore           # optional: without this line, other values are an error

    Without ``classes``, names count in the order in which they first appear, and indices are
    their own names. The same in CSV is a line for each, ``7,road``, without ``classes``; a
    heading is allowed.

    Args:
        path: The file; its suffix says of which kind it is.
        class_names: The classes, instead of those of the file.

    Returns:
        The mapping.

    Raises:
        DatasetError: If it cannot be read, or is not of this form.
    """
    content = _read(path)
    if isinstance(content, list):
        if not content or not all(isinstance(name, str) for name in content):
            raise DatasetError(f"Expected the list in {str(path)!r} to hold names of classes.")
        entries: dict[Any, Any] = dict(enumerate(content))
        return _build(entries, list(class_names) or list(content), False, path)
    if not isinstance(content, dict):
        raise DatasetError(
            f"Expected {str(path)!r} to hold a list of class names, or a class for each value, but "
            f"got {content!r}; in YAML a colour stands in quotes, as '#00008e': car."
        )
    entries = dict(content)
    unlisted = entries.pop("unlisted", None)
    if unlisted not in (None, "error", _IGNORE):
        raise DatasetError(
            f"Expected `unlisted` in {str(path)!r} to be 'ignore' or 'error', but got {unlisted!r}."
        )
    classes = list(class_names) or entries.pop("classes", None)
    entries.pop("classes", None)
    if classes is not None and not _is_names(classes):
        raise DatasetError(
            f"Expected `classes` in {str(path)!r} to be a list of names, but got {classes!r}."
        )
    return _build(entries, classes, unlisted == _IGNORE, path)


def _is_names(classes: object) -> bool:
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)


def _read(path: Path) -> Any:  # noqa: ANN401
    """The content of the file: a list, or a dictionary; of a CSV file too."""
    readers: dict[str, Callable[[str], Any]] = {
        ".json": json.loads,
        ".yaml": yaml.safe_load,
        ".yml": yaml.safe_load,
        ".csv": _csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"Expected the mapping {str(path)!r} to be a file named .json, .yaml, .yml or .csv."
        )
    try:
        return reader(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, csv.Error, yaml.YAMLError) as error:
        raise DatasetError(f"The mapping {str(path)!r} cannot be read: {error}.") from error


def _csv(text: str) -> list[str] | dict[str, str]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    if rows[0][0] != "unlisted" and _key(rows[0][0]) is None:  # a heading
        rows = rows[1:]
    wrong = [row for row in rows if len(row) != 2]
    if wrong:
        raise ValueError(f"expected a value and a class in each line, but got {wrong[0]}")
    return dict(rows)


def _key(written: object) -> tuple[bool, int] | None:
    """Whether a key is a colour, and its number; None if it is neither value nor colour."""
    text = str(written).strip()
    if colour := _COLOUR.fullmatch(text):
        return True, int(colour[1], 16)
    if not isinstance(written, bool) and re.fullmatch(r"\d+", text):
        return False, int(text)
    return None


def _build(
    entries: dict[Any, Any], classes: list[str] | None, ignore_unlisted: bool, path: Path
) -> ClassMapping:
    targets = [_target(target) for target in entries.values()]
    names = list(classes) if classes is not None else _names(targets, path)
    tables: tuple[dict[int, int], dict[int, int]] = {}, {}
    for written, target in zip(entries, targets, strict=True):
        key = _key(written)
        if key is None:
            raise DatasetError(
                f"The mapping {str(path)!r} has an entry {written!r}, but expected a value from 0 "
                'up or a colour such as "#00ff00".'
            )
        coloured, value = key
        tables[coloured][value] = _index(target, names, path)
    return ClassMapping(tuple(names), tables[False], tables[True], ignore_unlisted)


def _target(written: object) -> str | int:
    """A class as its name or its index; a number in CSV or JSON text is an index."""
    if isinstance(written, str):
        text = written.strip()
        if text == _IGNORE:
            return IGNORE
        return int(text) if re.fullmatch(r"-1|\d+", text) else text
    return written if isinstance(written, int) and not isinstance(written, bool) else str(written)


def _names(targets: Iterable[str | int], path: Path) -> list[str]:
    """The names of the classes where the file does not list them."""
    named = dict.fromkeys(target for target in targets if isinstance(target, str))
    indices = [target for target in targets if isinstance(target, int) and target != IGNORE]
    if named and indices:
        raise DatasetError(
            f"The mapping {str(path)!r} gives some classes by name and others by index; list the "
            "names in order as `classes`."
        )
    return list(named) or [str(index) for index in range(max(indices, default=-1) + 1)]


def _index(target: str | int, names: Sequence[str], path: Path) -> int:
    if isinstance(target, str):
        if target not in names:
            raise DatasetError(
                f"The mapping {str(path)!r} has a class {target!r} that is not among the classes"
                f"{did_you_mean(target, names)}"
            )
        return names.index(target)
    if not IGNORE <= target < len(names):
        raise DatasetError(
            f"The mapping {str(path)!r} has a class {target}, but there are {len(names)} classes, "
            "from 0 up."
        )
    return target
