"""Run a case: every contender in turn, round after round."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from diffsegkit.bench.case import Contender
from diffsegkit.bench.cases import load_case
from diffsegkit.bench.machine import describe_machine
from diffsegkit.bench.process import measure_apart
from diffsegkit.bench.request import Outcome, Request
from diffsegkit.bench.row import Row, describe_size, make_row
from diffsegkit.errors import ComponentError

Measure = Callable[[Request], Outcome]
"""Measures one contender once."""

Tell = Callable[[str], None]
"""Is told what is being measured."""


def check_requirements(names: Sequence[str]) -> None:
    """Be sure that cases can run, before the first one does.

    Args:
        names: Of the cases.

    Raises:
        ComponentError: If one needs a package that is not installed.
    """
    for name in names:
        case = load_case(name)
        missing = [module for module in case.requires if find_spec(module) is None]
        if missing:
            raise ComponentError(
                f"The case {name!r} needs {' and '.join(missing)}: pip install "
                f"'diffsegkit[{case.extra}]', or name other cases."
            )


def run_case(
    name: str,
    device: torch.device,
    *,
    rounds: int = 3,
    repeats: int = 5,
    measure: Measure = measure_apart,
    tell: Tell = lambda _: None,
) -> Iterator[list[Row]]:
    """Measure one case.

    Args:
        name: The case's.
        device: A CPU or a GPU.
        rounds: Processes per contender.
        repeats: Timed runs per process.
        measure: By default in a process of its own.
        tell: Is told what is being measured.

    Yields:
        The rows of one size after another, ours first.
    """
    case, machine = load_case(name), describe_machine(device)
    contenders = sorted(case.contenders(device), key=lambda each: each.role != "ours")
    with ExitStack() as stack:
        folder = ""
        if case.share is not None:
            tell(f"{name}: preparing what all contenders share")
            folder = stack.enter_context(TemporaryDirectory())
            case.share(Path(folder))
        for size in case.sizes(device):
            request = Request(name, "", size, str(device), repeats, folder)
            outcomes = _take_turns(contenders, request, rounds, measure, tell)
            yield [make_row(name, each, size, outcomes[each.name], machine) for each in contenders]


def _take_turns(
    contenders: Sequence[Contender], request: Request, rounds: int, measure: Measure, tell: Tell
) -> dict[str, list[Outcome]]:
    """Every contender once per round, because a machine is not as fast at every minute.

    In the first round the result of ours is kept, and the others are compared with it.
    """
    outcomes: dict[str, list[Outcome]] = {each.name: [] for each in contenders}
    for number in range(rounds):
        with TemporaryDirectory() as folder:
            ours = Path(folder) / "ours.pt"
            for contender in contenders:
                own = outcomes[contender.name]
                if any(each.status != "ok" for each in own):
                    continue  # it would fail again
                size = describe_size(request.size)
                tell(f"{request.case}, {size}: {contender.name}, round {number + 1} of {rounds}")
                save = str(ours) if number == 0 and contender is contenders[0] else ""
                reference = str(ours) if ours.exists() else ""
                own.append(
                    measure(
                        replace(request, contender=contender.name, save=save, reference=reference)
                    )
                )
    return outcomes
