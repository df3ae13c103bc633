"""What a folder of results holds: which image, with which configuration, in which files."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffsegkit.errors import DiffSegKitError
from diffsegkit.journal import Journal, read_journal

_NAME = "manifest"


@dataclass(frozen=True)
class Entry:
    """One image that is done.

    Args:
        id: What the results are called.
        sha256: Of the image's file, hexadecimal.
        configuration: Digest of everything the result depends on, see :func:`digest`.
        files: The results, relative to the manifest's folder.
        num_segments: How many segments there are.
    """

    id: str
    sha256: str
    configuration: str
    files: Sequence[str]
    num_segments: int


class Manifest:
    """The results in a folder, so that a run can leave out what is there.

    ``segment`` and ``predict`` write the same manifest: ``manifest.jsonl``, a line per image,
    after the files it names (``manifest.1.jsonl`` and so on are those of further processes). Of
    several lines for one image the last counts.

    Args:
        directory: The folder of the results.

    Raises:
        DiffSegKitError: If a file of that name is somebody else's.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     manifest = Manifest(folder)
        ...     manifest.is_done("photo", sha256="d2a8", configuration="77f0")
        False
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        known = Entry.__dataclass_fields__
        self._entries: dict[str, Entry] = {}
        for record in read_journal(directory, _NAME):
            if not known.keys() <= record.keys():
                raise DiffSegKitError(
                    f"'{_NAME}.jsonl' in {str(directory)!r} is not a manifest of diffsegkit; "
                    "choose another folder, or rename the file."
                )
            entry = Entry(**{name: record[name] for name in known})
            self._entries[entry.id] = entry

    def is_done(self, image_id: str, *, sha256: str | None, configuration: str) -> bool:
        """Whether the results of this very image with this very configuration are there.

        Args:
            image_id: What the results are called.
            sha256: Of the image's file; None if it cannot be read.
            configuration: Digest of the configuration.
        """
        entry = self._entries.get(image_id)
        return (
            entry is not None
            and (entry.sha256, entry.configuration) == (sha256, configuration)
            and all((self.directory / file).exists() for file in entry.files)
        )

    def journal(self, rank: int = 0) -> Journal:
        """Where a process adds ``asdict(entry)``, after the files of an image have been written.

        Args:
            rank: Of the process.
        """
        return Journal(self.directory, _NAME, rank)


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, hexadecimal; None if it cannot be read.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def digest(configuration: Mapping[str, Any]) -> str:
    """A short name for plain data: equal for equal data, whatever the order of the keys.

    Args:
        configuration: Plain data, as JSON holds it.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
