"""One line of the results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import quantiles

from diffsegkit.bench.case import Contender, Size
from diffsegkit.bench.machine import Machine
from diffsegkit.bench.request import Outcome


@dataclass(frozen=True)
class Row:
    """One contender of one case at one size; the fields are the columns of the CSV.

    Args:
        case: Its name.
        contender: Its name.
        role: See :data:`~diffsegkit.bench.case.Role`.
        size: ``name=number``, separated by blanks.
        p20_ms: A fifth of the timed runs took less, in milliseconds; None without times.
        p50_ms: The median.
        p80_ms: A fifth took longer.
        peak_mib: The peak of memory beyond the inputs, the result included, in MiB.
        repeats: Timed runs, of all processes together.
        difference: To the result of ours; None if it was not compared.
        tolerance: How large that may be.
        status: ``ok``, ``out of memory``, ``differs`` or ``failed``.
        note: What went wrong.
        device: With the model of the processor or GPU.
        threads: That PyTorch used on the CPU.
        python: Version.
        torch: Version.
        triton: Version; empty if it is not installed.
        diffsegkit: Version.
        commit: Of the checkout, with ``+dirty`` if files differed from it; empty without one.
        date: Of the measurement, UTC.
    """

    case: str
    contender: str
    role: str
    size: str
    p20_ms: float | None
    p50_ms: float | None
    p80_ms: float | None
    peak_mib: float | None
    repeats: int
    difference: float | None
    tolerance: float | None
    status: str
    note: str
    device: str
    threads: int
    python: str
    torch: str
    triton: str
    diffsegkit: str
    commit: str
    date: str

    def cells(self) -> dict[str, str]:
        """The row as text, by column; what is not known is empty."""
        return {name: _text(value) for name, value in asdict(self).items()}


COLUMNS = tuple(each.name for each in fields(Row))
"""Of the CSV, in this order."""


def make_row(
    case: str, contender: Contender, size: Size, outcomes: Sequence[Outcome], machine: Machine
) -> Row:
    """Put together what the processes of one contender measured.

    Args:
        case: Its name.
        contender: Which.
        size: At which.
        outcomes: One per process, at least one.
        machine: On which.
    """
    wrong = next((each for each in outcomes if each.status != "ok"), None)
    times = [] if wrong else [each for outcome in outcomes for each in outcome.milliseconds]
    p20, p50, p80 = percentiles(times) if times else (None, None, None)
    peaks = [each.peak_mib for each in outcomes if each.peak_mib is not None]
    differences = [each.difference for each in outcomes if each.difference is not None]
    return Row(
        case=case,
        contender=contender.name,
        role=contender.role,
        size=describe_size(size),
        p20_ms=p20,
        p50_ms=p50,
        p80_ms=p80,
        peak_mib=max(peaks, default=None),
        repeats=len(times),
        difference=max(differences, default=None),
        tolerance=contender.tolerance,
        status=wrong.status if wrong else "ok",
        note=wrong.note if wrong else "",
        threads=max(each.threads for each in outcomes),
        **machine._asdict(),
    )


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 20th, the 50th and the 80th, interpolated linearly.

    Args:
        values: At least one.

    Example:
        >>> percentiles([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        (2.0, 3.5, 5.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    tenths = quantiles(values, n=10, method="inclusive")
    return tenths[1], tenths[4], tenths[7]


def describe_size(size: Size) -> str:
    """A size as text.

    Args:
        size: Numbers by name.

    Example:
        >>> describe_size({"tokens": 4096, "images": 1})
        'tokens=4096 images=1'
    """
    return " ".join(f"{name}={value}" for name, value in size.items())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
