"""The CSV to which results are added."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from diffsegkit.bench.row import COLUMNS, Row
from diffsegkit.errors import UsageError
from diffsegkit.files import writable_folder, write_atomically


def check_results_file(path: Path) -> None:
    """Be sure that rows can be added, before anything is measured.

    Args:
        path: The CSV; it need not exist.

    Raises:
        UsageError: If it cannot be written, or is a file with other columns.
    """
    if path.is_dir():
        raise UsageError(f"Expected --out to be a CSV file, but {str(path)!r} is a folder.")
    writable_folder(str(path.parent), "the folder of --out")
    _read(path)


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows; the file is replaced as a whole, so that it is never half-written.

    Args:
        path: The CSV; it is made if need be.
        rows: In their order.

    Raises:
        UsageError: If the file has other columns.
        OSError: If it cannot be written.
    """
    before = _read(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not before:
        writer.writeheader()
    elif not before.endswith("\n"):
        before += "\n"
    writer.writerows(row.cells() for row in rows)
    write_atomically(path, lambda file: file.write((before + text.getvalue()).encode()))


def _read(path: Path) -> str:
    """What the file holds; nothing if there is none.

    Raises:
        UsageError: If that is something else than results of this kind.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Expected --out to be a CSV file of results, but {str(path)!r} cannot be read as one; "
            "give another name."
        ) from error
    found = next(csv.reader(io.StringIO(content)), []) if content else list(COLUMNS)
    if found != list(COLUMNS):
        raise UsageError(
            f"Expected {str(path)!r} to have the columns {','.join(COLUMNS)}, so that rows can be "
            f"added, but got {','.join(found)[:200]}; give --out another name."
        )
    return content
