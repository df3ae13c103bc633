"""Measure one contender, in this process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffsegkit.bench.case import Case, Contender, Setting
from diffsegkit.bench.cases import load_case
from diffsegkit.bench.memory import watch_peak
from diffsegkit.bench.request import Outcome, Request, Status
from diffsegkit.cli.explain import is_out_of_memory

# Fast operations are timed more often than asked, slow ones less.
_AT_LEAST_MS = 100.0
_AT_MOST_MS = 10_000.0


def measure(request: Request) -> Outcome:
    """Warm up, see how much memory that took, compare the result, and time.

    Args:
        request: What to measure.

    Returns:
        What was measured. A lack of memory, and whatever a contender raises, is an outcome too.
    """
    try:
        with torch.no_grad():
            return _measure(request)
    except Exception as error:  # noqa: BLE001 - a contender may raise anything
        status: Status = "out of memory" if is_out_of_memory(error) else "failed"
        note = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Outcome(status, threads=torch.get_num_threads(), note=note)


def _measure(request: Request) -> Outcome:
    case, device = load_case(request.case), torch.device(request.device)
    [contender] = [each for each in case.contenders(device) if each.name == request.contender]
    _wake(device)
    folder = Path(request.folder) if request.folder else None
    prepared = contender.prepare(case.inputs(Setting(request.size, device, folder)))
    peak = watch_peak(device)
    result = contender.run(prepared)
    peak_mib = peak()
    if request.save:
        torch.save(result, request.save)
    threads = torch.get_num_threads()
    difference = _difference(case, contender, result, request.reference, device)
    del result
    if difference is not None and not difference <= (contender.tolerance or 0.0):
        note = f"{difference:.3g} from ours, where {contender.tolerance} is allowed"
        return Outcome("differs", [], peak_mib, difference, threads, note)
    times = _times(lambda: contender.run(prepared), request.repeats, device)
    return Outcome("ok", times, peak_mib, difference, threads)


def _wake(device: torch.device) -> None:
    """What the first product on a device allocates for all later ones belongs to nobody."""
    for dtype in (torch.float32, torch.float16):
        if device.type == "cuda" or dtype == torch.float32:
            some = torch.ones(8, 8, device=device, dtype=dtype)
            torch.addmm(some, some, some)


def _difference(
    case: Case,
    contender: Contender,
    result: Any,  # noqa: ANN401
    reference: str,
    device: torch.device,
) -> float | None:
    """How far it is from ours; None if that is not known, or no whole result."""
    if not reference or contender.tolerance is None:
        return None
    ours = torch.load(reference, map_location=device, weights_only=True)
    return case.difference(ours, result)


def _times(run: Callable[[], Any], repeats: int, device: torch.device) -> list[float]:
    """Milliseconds of each run; at least one."""
    stopwatch = _time_on_gpu if device.type == "cuda" else _time_on_cpu
    times = [stopwatch(run)]
    while sum(times) < _AT_MOST_MS and (len(times) < repeats or sum(times) < _AT_LEAST_MS):
        times.append(stopwatch(run))
    return times


def _time_on_cpu(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def _time_on_gpu(run: Callable[[], Any]) -> float:
    """By the GPU's own clock, from an idle GPU until everything is done."""
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds
