"""The process in which one contender is measured: a request comes in, an outcome goes out."""

import sys
from contextlib import suppress
from pathlib import Path

import torch

from diffsegkit.bench.measure import measure
from diffsegkit.bench.request import Request

_FIRST_TO_GO = "1000"


def main() -> None:
    """Read a request from the input, and write the outcome as the last line of the output."""
    request = Request.from_json(sys.stdin.read())
    # Where memory runs out, let the system end this process, and not the one that waits for it.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    if request.device.startswith("cuda"):
        torch.cuda.set_device(request.device if ":" in request.device else 0)
    print(f"\n{measure(request).to_json()}")  # noqa: T201


if __name__ == "__main__":
    main()
