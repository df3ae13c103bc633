"""Rows of results, and tables that compare only what is comparable."""

import csv
import fcntl
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from diffsegkit.files import write_atomically
from diffsegkit.manifest import digest

_NO_SCORE = "-"
# What makes two data sets one, however their images were chosen.
_SAME_DATA = (
    "name", "ids_sha256", "files_sha256", "crop", "mapping_sha256", "num_classes", "class_names",
    "background",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One method on one data set, flat.

    Args:
        cells: By column. Scores carry the protocol in their column's name, so that a column never
            mixes protocols.
    """

    cells: Mapping[str, str]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], result: Mapping[str, Any]) -> "Row":
        """The row of one of the results in a ``results.json``.

        Args:
            document: The whole.
            result: One of its results.
        """
        data = document["data"]
        git = document["git"] or {}
        protocol = result["protocol"]
        cells = {
            "run": document["run"],
            "finished": document["finished"],
            "name": document["name"],
            "method": result["method"],
            **{need: "yes" if document["needs"][need] else "no" for need in document["needs"]},
            "told": document["told"],
            "data": data["name"],
            "split": data.get("split"),
            "images": document["images"],
            "crop": data.get("crop"),
            "data_digest": digest({key: data[key] for key in _SAME_DATA if key in data}),
            "protocol": protocol,
            **{f"{metric} ({protocol})": score for metric, score in result["scores"].items()},
            "seed": document.get("seed"),
            "dtype": document.get("dtype"),
            "device": document["device"],
            "processes": document["processes"],
            "git_commit": git.get("commit"),
            "git_changed": git.get("changed"),
            "versions": json.dumps(document["versions"]),
            "configuration": json.dumps(result["configuration"]),
        }
        return cls({name: _text(value) for name, value in cells.items()})

    @property
    def comparable_with(self) -> tuple[str, ...]:
        """What two rows must have in common to be compared."""
        keys = ("data", "split", "images", "crop", "data_digest", "protocol")
        return tuple(self.cells.get(key, "") for key in keys)

    def scores(self) -> dict[str, str]:
        """The scores by metric, without the protocol."""
        ending = f" ({self.cells['protocol']})"
        return {
            column.removesuffix(ending): value
            for column, value in self.cells.items()
            if column.endswith(ending) and value
        }


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``results.csv``; none if there is no such file.

    Args:
        path: The file.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(dict(cells)) for cells in csv.DictReader(file)]


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add the rows of a run to ``results.csv``, in place of those it has there already.

    The file is replaced as a whole, because a new protocol brings new columns; a lock lets runs
    that end together wait for each other.

    Args:
        path: The file; it is made if need be.
        rows: Of one run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mine = {row.cells["run"] for row in rows}
        every = [row for row in read_rows(path) if row.cells.get("run") not in mine] + list(rows)
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in every for name in row.cells))
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(row.cells for row in every)
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table for each group of rows that may be compared.

    Args:
        rows: Of any runs.

    Returns:
        Headings that name data and protocol, and the tables beneath them.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.comparable_with, []).append(row)
    return "\n".join(_table(group) for group in groups.values())


def _table(rows: Sequence[Row]) -> str:
    first = rows[0].cells
    crop = f"centre square of {first['crop']} pixels" if first["crop"] else "own size"
    heading = (
        f"### {first['data']} {first['split']}, {first['images']} images, {crop} "
        f"(data {first['data_digest'][:8]}) - {first['protocol']}"
    )
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.scores()))
    told = any(row.cells["told"] for row in rows)
    columns = ["method", "LD", "UA", "AX", *(["told"] if told else []), *metrics]
    texts = columns[: len(columns) - len(metrics)]
    lines = [heading, "", _line(columns), _line(["---"] * len(texts) + ["---:"] * len(metrics))]
    for row in rows:
        scores = row.scores()
        cells = [row.cells[column] for column in texts]
        lines.append(_line([*cells, *(_rounded(scores.get(metric)) for metric in metrics)]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _rounded(value: str | None) -> str:
    return _NO_SCORE if value is None else f"{float(value):.4f}"


def _text(value: Any) -> str:  # noqa: ANN401
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return str(value)
