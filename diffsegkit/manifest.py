"""What a folder of results holds: which image, with which configuration, in which files."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffsegkit.errors import DiffSegKitError
from diffsegkit.journal import Journal, check_idle, journal_files, read_journal

_NAME = "manifest"


@dataclass(frozen=True)
class Entry:
    """One image that is done.

    Args:
        id: What the results are called.
        sha256: Of the image's file, hexadecimal.
        configuration: Digest of everything the result depends on, see :func:`digest`.
        files: The results, relative to the manifest's folder, and their sizes in bytes.
        num_segments: How many segments there are.
    """

    id: str
    sha256: str
    configuration: str
    files: Mapping[str, int]
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
            and entry.files == file_sizes(self.directory, entry.files)
        )

    def clear(self, journal: Journal) -> None:
        """Remove the results that are listed here, and the list.

        Args:
            journal: The caller's own, which stays open.

        Raises:
            DiffSegKitError: If another process is writing the list.
        """
        check_idle(self.directory, _NAME)
        journal.open()
        for entry in self._entries.values():
            for file in entry.files:
                path = (self.directory / file).resolve()
                if path.is_relative_to(self.directory.resolve()):
                    path.unlink(missing_ok=True)
        for path in journal_files(self.directory, _NAME):
            if path != journal.path:
                path.unlink()
        journal.clear()
        self._entries.clear()

    def journal(self, rank: int = 0) -> Journal:
        """Where a process adds ``asdict(entry)``, after the files of an image have been written.

        Args:
            rank: Of the process.
        """
        return Journal(self.directory, _NAME, rank)


def file_sizes(directory: Path, files: Iterable[str]) -> dict[str, int]:
    """The size of each file in bytes, without those that are not there.

    Args:
        directory: What the names are relative to.
        files: Their names.
    """
    paths = {file: directory / file for file in files}
    return {file: path.stat().st_size for file, path in paths.items() if path.is_file()}


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
