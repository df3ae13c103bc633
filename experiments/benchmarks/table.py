"""Results of `diffsegkit bench` as Markdown, for the documentation.

    python experiments/benchmarks/table.py results.csv [--case post-processing ...]

A table per device, commit and day; ours as a share of each other comes first.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

_CONDITIONS = (
    "device", "threads", "python", "torch", "triton", "diffsegkit", "commit", "date",
)  # fmt: skip
_NOTHING = "-"


def read_groups(path, cases=None):
    """Rows by the conditions under which they were measured, in the order of the file.

    Args:
        path: The CSV.
        cases: Which; None for all.
    """
    groups = defaultdict(list)
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            if cases is None or row["case"] in cases:
                groups[tuple(row[name] for name in _CONDITIONS)].append(row)
    return groups


def share(row, rows):
    """Our time as a share of this row's, of the first of ours at the same size.

    Args:
        row: Any.
        rows: Of the same conditions.
    """
    ours = next(
        (
            float(each["p50_ms"])
            for each in rows
            if each["role"] == "ours"
            and each["p50_ms"]
            and (each["case"], each["size"]) == (row["case"], row["size"])
        ),
        None,
    )
    if ours is None or not row["p50_ms"] or row["role"] in ("ours", "part"):
        return _NOTHING
    return f"{ours / float(row['p50_ms']):.2f}"


def markdown(rows):
    """A table.

    Args:
        rows: Of the same conditions.
    """
    lines = [
        "| case | size | contender | our time / its | ms: p50 (p20 to p80) | MiB |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in rows:
        time = _NOTHING if row["status"] == "ok" else row["status"]
        if row["p50_ms"]:
            p20, p50, p80 = (_short(row[name]) for name in ("p20_ms", "p50_ms", "p80_ms"))
            time = f"{p50} ({p20} to {p80})"
        name = f"{row['contender']} (floor)" if row["role"] == "floor" else row["contender"]
        memory = f"{float(row['peak_mib']):.0f}" if row["peak_mib"] else _NOTHING
        cells = [row["case"], row["size"], name, share(row, rows), time, memory]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def conditions(group):
    """One line of where, when and with what.

    Args:
        group: From read_groups().
    """
    named = dict(zip(_CONDITIONS, group, strict=True))
    versions = [f"{name} {named[name]}" for name in _CONDITIONS[2:7] if named[name]]
    return ", ".join([named["device"], f"{named['threads']} threads", *versions, named["date"]])


def _short(milliseconds):
    value = float(milliseconds)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a CSV of `diffsegkit bench --out`")
    parser.add_argument("--case", nargs="+", help="only these")
    options = parser.parse_args()
    for group, rows in read_groups(options.results, options.case).items():
        print(f"{markdown(rows)}\n\n{conditions(group)}\n")


if __name__ == "__main__":
    main()
