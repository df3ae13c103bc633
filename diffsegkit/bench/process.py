"""Measure in a process of its own, so that nothing of another contender is in the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from diffsegkit.bench.request import Outcome, Request

_PACKAGES = Path(__file__).parents[2]


def measure_apart(request: Request) -> Outcome:
    """Start a process, let it measure, and wait for it.

    Args:
        request: What to measure.

    Returns:
        What it measured; if it died, of what.
    """
    # -P: no file of the working directory stands in for a module. The package is this one,
    # whichever is installed.
    command = [sys.executable, "-P", "-m", "diffsegkit.bench.worker"]
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        command,
        input=request.to_json(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    if done.returncode == 0:
        return Outcome.from_json(done.stdout.splitlines()[-1])
    if done.returncode == -signal.SIGKILL:
        return Outcome("out of memory", note="the system ended the process (SIGKILL)")
    said = done.stderr.strip().splitlines()
    note = f"the process ended with {done.returncode}: {said[-1] if said else 'without a word'}"
    return Outcome("failed", note=note[:200])
