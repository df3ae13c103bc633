"""What is asked of a process that measures, and what it answers; both travel as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from diffsegkit.bench.case import Size

Status = Literal["ok", "out of memory", "differs", "failed"]
"""``"differs"``: its result is not ours, so its time says nothing and was not taken."""


@dataclass(frozen=True)
class Request:
    """One contender of one case at one size.

    Args:
        case: Its name.
        contender: Its name.
        size: One of the case's.
        device: Such as ``"cpu"``.
        repeats: How often it is timed, at least, after one run that warms up.
        folder: What the contenders share; empty if nothing.
        save: The file into which the result goes; empty if it need not be kept.
        reference: The file with the result to compare with; empty if there is none.
    """

    case: str
    contender: str
    size: Size
    device: str
    repeats: int
    folder: str = ""
    save: str = ""
    reference: str = ""

    def to_json(self) -> str:
        """One line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Outcome:
    """What a process measured.

    Args:
        status: Whether it did.
        milliseconds: Of each timed run.
        peak_mib: Of the first run, beyond the inputs; None if the system does not tell.
        difference: To the reference; None without one.
        threads: That PyTorch used on the CPU.
        note: What went wrong.
    """

    status: Status
    milliseconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    difference: float | None = None
    threads: int = 0
    note: str = ""

    def to_json(self) -> str:
        """One line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))
