"""A folder of files by key that keeps to a size."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diffsegkit.files import TEMPORARY_PREFIX, writable_folder, write_atomically

_KEPT = 0.9
"""Of the size, what is left when the oldest files go: then not every write has to look at all."""
_LOOK = 0.1
"""Of the size, what is written before a look at what other processes have written."""
_ABANDONED = 3600.0
"""Seconds after which a temporary file belongs to a process that is gone; a write takes few."""


@dataclass(frozen=True, order=True)
class _File:
    modified: float
    path: Path
    size: int


class CacheFolder:
    """Files by key; the least recently used go when together they grow too large.

    ``<first two digits>/<key><suffix>``. Any number of processes may use one folder: a file is
    there whole or not at all, one that vanishes counts as absent, and each process looks at what
    all have written after a tenth of the size at the latest. Other files are left alone.

    Args:
        directory: The folder; it is made if need be.
        max_bytes: What the files may take together, leftovers of killed processes included.
        suffix: Of the files' names.

    Raises:
        UsageError: If it is no folder, or cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as directory:
        ...     folder = CacheFolder(directory, max_bytes=100, suffix=".txt")
        ...     folder.write("00" * 32, b"something")
        ...     folder.read("00" * 32), folder.read("ff" * 32)
        (b'something', None)
    """

    def __init__(self, directory: str | os.PathLike[str], max_bytes: float, suffix: str) -> None:
        self.directory = writable_folder(os.fspath(directory), "argument `dir`")
        self.max_bytes = max_bytes
        self.suffix = suffix
        self._ours = re.compile(f"[0-9a-f]{{64}}{re.escape(suffix)}")
        # What there was at the last look and was written since; unknown before the first.
        self._total: int | None = None
        self._unseen = 0

    def path(self, key: str) -> Path:
        """Where a file is, or would be.

        Args:
            key: 64 hexadecimal digits.
        """
        return self.directory / key[:2] / f"{key}{self.suffix}"

    def read(self, key: str) -> bytes | None:
        """What is there, which counts as its use; None if nothing is.

        Args:
            key: 64 hexadecimal digits.

        Raises:
            OSError: If it is there and cannot be read.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        with suppress(OSError):  # another process may have removed it meanwhile
            os.utime(path)
        return data

    def write(self, key: str, data: bytes) -> None:
        """Put something there, and remove the least recently used if all is too large now.

        Args:
            key: 64 hexadecimal digits.
            data: At most ``max_bytes``.

        Raises:
            OSError: If it cannot be written.
        """
        if self._total is None:
            self._make_room()
        write_atomically(self.path(key), lambda file: file.write(data))
        assert self._total is not None  # set by _make_room
        self._total += len(data)
        self._unseen += len(data)
        if self._total > self.max_bytes or self._unseen > _LOOK * self.max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        """Look at all files; if they are too large together, remove the oldest."""
        files = sorted(self._files())
        total = sum(file.size for file in files)
        if total > self.max_bytes:
            whole = [file for file in files if file.path.suffix == self.suffix]
            for file in whole[:-1]:  # the newest has just been written, and fits
                if total <= _KEPT * self.max_bytes:
                    break
                with suppress(OSError):
                    file.path.unlink(missing_ok=True)
                    total -= file.size
        self._total, self._unseen = total, 0

    def _files(self) -> Iterator[_File]:
        """What is ours: files by key, and those being written; the abandoned are removed."""
        abandoned = time.time() - _ABANDONED
        for path in self.directory.glob("[0-9a-f][0-9a-f]/*"):
            temporary = path.name.startswith(TEMPORARY_PREFIX)
            if not temporary and not self._ours.fullmatch(path.name):
                continue
            with suppress(OSError):  # other processes remove files too
                status = path.stat()
                if temporary and status.st_mtime < abandoned:
                    path.unlink()
                    continue
                yield _File(status.st_mtime, path, status.st_size)
