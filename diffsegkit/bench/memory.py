"""How much memory a computation takes beyond what was in use before it."""

import ctypes
import gc
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_MIB = 2**20
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def watch_peak(device: torch.device) -> Callable[[], float | None]:
    """Begin to watch the peak of memory.

    On a GPU that is what PyTorch's tensors take there. On a CPU it is the resident memory of this
    process, files and libraries mapped into it left out, because these are read when they are first
    used. Not ``getrusage``, whose peak begins with that of the parent.

    Args:
        device: Whose memory.

    Returns:
        A function that tells the peak since then, in MiB beyond what was in use; None where the
        system does not tell.
    """
    return _watch_gpu(device) if device.type == "cuda" else _watch_process()


def _watch_gpu(device: torch.device) -> Callable[[], float | None]:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)

    def peak() -> float:
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / _MIB

    return peak


def _watch_process() -> Callable[[], float | None]:
    _give_back_free_memory()
    can_reset = _reset_peak()
    status = _status()
    if status is None:
        return lambda: None
    earlier = status["VmHWM"]
    before = status["VmRSS"] - status["RssFile"]

    def peak() -> float | None:
        status = _status()
        # Without a reset, the peak may still be that of making the inputs.
        if status is None or (not can_reset and status["VmHWM"] <= earlier):
            return None
        return max(0.0, (status["VmHWM"] - status["RssFile"] - before) / 1024)

    return peak


def _give_back_free_memory() -> None:
    """Return to the system what the allocator keeps: what is taken of it would not be seen."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> bool:
    """Let VmHWM begin anew, see proc(5); whether that is possible here."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _status() -> dict[str, int] | None:
    """Sizes in KiB by name; None where there is no such file."""
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    found = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    return found if {"VmHWM", "VmRSS", "RssFile"} <= set(found) else None
