"""What a person reads: ratios first, because they depend less on the machine than times do."""

from collections.abc import Sequence

from diffsegkit.bench.row import Row

_HEADINGS = ("p20 ms", "p50 ms", "p80 ms", "peak MiB", "differs by")
_UNSTEADY = 2  # p80 / p20


def report(rows: Sequence[Row]) -> list[str]:
    """The rows of one case at one size.

    Args:
        rows: One per contender, at least one.

    Returns:
        Lines of text.
    """
    first = rows[0]
    return [f"{first.case}, {first.size}", *_ratios(rows), "", *_table(rows)]


def describe_conditions(row: Row) -> str:
    """What all rows of a run have in common.

    Args:
        row: Any of them.
    """
    parts = [
        row.device,
        f"{row.threads} threads",
        f"Python {row.python}",
        f"torch {row.torch}",
        *([f"triton {row.triton}"] if row.triton else []),
        f"diffsegkit {row.diffsegkit}",
        *([f"commit {row.commit}"] if row.commit else []),
        row.date,
    ]
    return ", ".join(parts)


def _ratios(rows: Sequence[Row]) -> list[str]:
    """A line for each pair of ours and another that both have a time."""
    return [
        _ratio(own, other)
        for own in rows
        for other in rows
        if own.role == "ours"
        and other.role in ("baseline", "floor")
        and own.p50_ms
        and other.p50_ms
    ]


def _ratio(own: Row, other: Row) -> str:
    time = (own.p50_ms or 0) / (other.p50_ms or 1)
    text = f"  {own.contender} / {other.contender}: {time:.2f} of the time"
    if other.role == "floor":
        # A floor of time: with less than a whole result, its memory says nothing.
        return f"{text} (the floor)"
    if own.peak_mib is None or not other.peak_mib:
        return text
    return f"{text}, {own.peak_mib / other.peak_mib:.2f} of the memory"


def _table(rows: Sequence[Row]) -> list[str]:
    width = max(len(row.contender) for row in rows)
    lines = ["  " + " " * width + "".join(f"{each:>12}" for each in _HEADINGS)]
    for row in rows:
        cells = (
            *(_number(value) for value in (row.p20_ms, row.p50_ms, row.p80_ms)),
            "-" if row.peak_mib is None else f"{row.peak_mib:.0f}",
            "-" if row.difference is None else f"{row.difference:.1g}",
        )
        note = _steadiness(row) if row.status == "ok" else f"  {row.status}: {row.note}"
        lines.append(f"  {row.contender:{width}}" + "".join(f"{c:>12}" for c in cells) + note)
    return lines


def _steadiness(row: Row) -> str:
    """A mark on times that vary so much that something else must have run beside them."""
    if not row.p20_ms or not row.p80_ms or row.p80_ms < _UNSTEADY * row.p20_ms:
        return ""
    return f"  unsteady: p80 is {row.p80_ms / row.p20_ms:.1f} times p20"


def _number(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.1f}"
