"""What a row was measured on and with."""

import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch

from diffsegkit.environment import device_name, git_state, versions

_SOURCES = Path(__file__).parents[2]


class Machine(NamedTuple):
    """The device, the versions, the commit, and the day."""

    device: str
    python: str
    torch: str
    triton: str
    diffsegkit: str
    commit: str
    date: str


def describe_machine(device: torch.device) -> Machine:
    """Describe this machine.

    Args:
        device: On which is measured.
    """
    found = versions()
    return Machine(
        device=f"cpu ({_processor()})" if device.type == "cpu" else device_name(device),
        python=found["python"],
        torch=torch.__version__,
        triton=found.get("triton", ""),
        diffsegkit=found.get("diffsegkit", ""),
        commit=_commit(),
        date=datetime.now(UTC).date().isoformat(),
    )


def _processor() -> str:
    """The model of the processor, as far as the system tells."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _commit() -> str:
    """Of diffsegkit's own repository, if this is a checkout of it; ``+dirty`` if files differ."""
    if not (_SOURCES / "pyproject.toml").is_file():
        return ""  # an installed package, perhaps within the repository of something else
    state = git_state(_SOURCES)
    return "" if state is None else f"{state['commit']}{'+dirty' * bool(state['changed'])}"
