"""Lines of JSON that outlive the process that wrote them."""

import fcntl
import json
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from diffsegkit.errors import DiffSegKitError


class Journal:
    """Append-only records on disk: after a kill -9 each is there whole, or not at all.

    Every process has a file of its own, ``<name>.jsonl`` or ``<name>.<rank>.jsonl``, so none waits
    for another and none can tear another's line; :func:`read_journal` reads them all. A line that
    an interruption left incomplete is not counted.

    Args:
        directory: Where; it is made with the file, by the first record or :meth:`open`.
        name: What the journal is about.
        rank: Of this process.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with Journal(folder, "journal") as journal:
        ...         journal.append({"id": "one"})
        ...     read_journal(folder, "journal")
        [{'id': 'one'}]
    """

    def __init__(self, directory: str | os.PathLike[str], name: str, rank: int = 0) -> None:
        self.path = Path(directory) / (f"{name}.{rank}.jsonl" if rank else f"{name}.jsonl")
        self._file: FileIO | None = None

    def open(self) -> None:
        """Keep others from writing this file, from now on until it is closed.

        Raises:
            DiffSegKitError: If another process is writing it.
        """
        if self._file is None:
            self._file = _open_alone(self.path)

    def clear(self) -> None:
        """Forget the records of this process."""
        self.open()
        assert self._file is not None
        self._file.truncate(0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; when this returns, the record outlives the process.

        Args:
            record: Plain data.

        Raises:
            DiffSegKitError: If another process is writing this very file.
            OSError: If the disk is full; what was written of the line does not count.
        """
        self.open()
        assert self._file is not None
        line = memoryview((json.dumps(record, separators=(",", ":")) + "\n").encode())
        while line:
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Let others write."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        # A run that fails leaves its journal to Python's end, where it would warn.
        self.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_journal(directory: str | os.PathLike[str], name: str) -> list[dict[str, Any]]:
    """All records, of all processes.

    Args:
        directory: Where the journal is.
        name: What it is about.

    Returns:
        The records of each file in the order written; nothing if there is no journal.

    Raises:
        DiffSegKitError: If a line that is complete is no record: somebody else wrote there.
    """
    records = []
    for path in journal_files(directory, name):
        *lines, _incomplete = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise DiffSegKitError(
                    f"Line {number} of {str(path)!r} is not a record; delete the file and start "
                    "again."
                )
            records.append(record)
    return records


def check_idle(directory: str | os.PathLike[str], name: str) -> None:
    """Be sure that nobody is writing a journal.

    Args:
        directory: Where it is.
        name: What it is about.

    Raises:
        DiffSegKitError: If a process is.
    """
    for path in journal_files(directory, name):
        with path.open("rb") as file:
            _lock(file, path)


def journal_files(directory: str | os.PathLike[str], name: str) -> list[Path]:
    """The files of a journal.

    Args:
        directory: Where the journal is.
        name: What it is about.
    """
    of_others = sorted(Path(directory).glob(f"{name}.*.jsonl"))
    return [path for path in [Path(directory) / f"{name}.jsonl"] if path.exists()] + of_others


def _open_alone(path: Path) -> FileIO:
    """Open for appending, locked, without what an interruption left behind the last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FileIO(path, "ab")
    _lock(file, path)
    # The next line would join an incomplete one, and be lost with it.
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if content[whole:].strip(b"\0") and not content[whole:].startswith(b"{"):
        file.close()
        raise DiffSegKitError(f"{str(path)!r} holds something else than records; rename the file.")
    file.truncate(whole)
    return file


def _lock(file: IO[bytes] | FileIO, path: Path) -> None:
    """Lock a file until it is closed; it is closed if another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DiffSegKitError(
            f"Another process is writing {str(path)!r}; wait for it or stop it, or choose another "
            "folder."
        ) from error
