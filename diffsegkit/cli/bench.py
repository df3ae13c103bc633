"""``diffsegkit bench``: speed and memory, beside the obvious PyTorch and the floor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from diffsegkit.bench.cases import CASES, LONG, choose_cases
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.errors import UsageError
from diffsegkit.parsing import SentenceParser

if TYPE_CHECKING:  # --list and --help need not import it
    import torch

_EPILOG = """Contenders take turns, each in processes of its own, and what they compute is compared
with our result before they are timed.

Examples:
  diffsegkit bench
  diffsegkit bench anchors post-processing --rounds 5 --out results.csv
  diffsegkit bench scaling --device cuda --out results.csv
What there is: diffsegkit bench --list
"""


def run(args: list[str]) -> int:
    """Measure.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if a contender failed or computed something else than ours; a lack of memory is a
        result.

    Raises:
        UsageError: If a case is unknown or cannot run here, a number is below 1, or the file for
            the results cannot take them.
    """
    options = _parser().parse_args(args)
    if options.list:
        for name, summary in CASES.items():
            print(f"{name:18}{summary}{' (Takes long.)' * (name in LONG)}")  # noqa: T201
        return 0
    names = choose_cases(options.cases)
    for option in ("rounds", "repeats"):
        if options[option] < 1:
            raise UsageError(f"Expected --{option} to be at least 1, but got {options[option]}.")
    device = _find_device(options.device)
    out = None if options.out is None else Path(options.out).expanduser()
    return _measure(names, device, options.rounds, options.repeats, out)


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="diffsegkit bench",
        usage="diffsegkit bench [CASE ...] [options]",
        description="Measure speed and memory beside plain PyTorch, and beside the floor of what "
        "must be computed.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "cases",
        nargs="*",
        type=str,
        default=[],
        metavar="CASE",
        help="What to measure; by default all that does not take long.",
    )
    parser.add_argument("--list", action="store_true", help="Show the cases, and run none.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="Processes of each.")
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="Timed runs per process, at least; what is slow is run less often, what is fast more.",
    )
    parser.add_argument(
        "--device", type=str, default="auto", metavar="DEVICE", help="auto, cpu or cuda."
    )
    parser.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help="A CSV to which the results are added, case by case.",
    )
    add_debug(parser)
    return parser


def _find_device(name: str) -> torch.device:
    """A CPU or a GPU of CUDA's, whose time and memory can be read."""
    from diffsegkit.cli.arguments import find_device

    device = find_device(name)
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Expected --device to be auto, cpu or cuda, but got {name!r}.")
    return device


def _measure(
    names: list[str], device: torch.device, rounds: int, repeats: int, out: Path | None
) -> int:
    """Run the cases; print and keep the results of each as soon as they are there."""
    from diffsegkit.bench.report import describe_conditions, report
    from diffsegkit.bench.results_file import append_rows, check_results_file
    from diffsegkit.bench.suite import check_requirements, run_case

    check_requirements(names)
    if out is not None:
        check_results_file(out)
    if device.type == "cpu":
        _warn_if_busy()
    conditions, wrong = "", False
    with _status() as tell:
        for name in names:
            for rows in run_case(name, device, rounds=rounds, repeats=repeats, tell=tell):
                if out is not None:
                    append_rows(out, rows)
                print(*report(rows), "", sep="\n", flush=True)  # noqa: T201
                conditions = describe_conditions(rows[0])
                wrong = wrong or any(row.status in ("differs", "failed") for row in rows)
    print(conditions)  # noqa: T201
    return 1 if wrong else 0


def _warn_if_busy() -> None:
    """Say so if others keep the processors busy: threads that wait for each other suffer most."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors / 2:
        warnings.warn(
            f"{load:.1f} programs have been running on the {processors} processors of this machine "
            "during the last minute; times taken beside them say little, and ratios not much more.",
            stacklevel=1,
        )


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Show what is being measured, where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
