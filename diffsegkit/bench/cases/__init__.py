"""The benchmarks, one file each: sizes, inputs, contenders, and how far results may be apart."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from diffsegkit.errors import UsageError
from diffsegkit.parsing import did_you_mean

if TYPE_CHECKING:  # `diffsegkit bench --list` need not import torch
    from diffsegkit.bench.case import Case

CASES = {
    "pairwise-kl": "The distance between all pairs of maps.",
    "anchors": "The distance of 256 anchors to all maps.",
    "absorb": "Round 0 of merging: these distances, and the sums of the maps that are close.",
    "mean-attention": "Attention of one layer, averaged over its heads.",
    "aggregate": "Attention of four grids, brought to one.",
    "assign": "Proposals to a label map.",
    "post-processing": "Aggregation, merging and assignment of one image.",
    "stable-diffusion": "Stable Diffusion 1.4 from photo to label map, with random weights.",
    "scaling": "How post-processing grows with tokens, anchors and images.",
}
"""Each case is the module of its name in this package, imported when it runs."""

LONG = ("stable-diffusion", "scaling")
"""What takes so long that it has to be asked for."""


def load_case(name: str) -> Case:
    """A case by its name.

    Args:
        name: One of :data:`CASES`.
    """
    case: Case = import_module(f"{__name__}.{name.replace('-', '_')}").CASE
    return case


def choose_cases(names: Sequence[str]) -> list[str]:
    """What is to be run, each once.

    Args:
        names: Those asked for; none for all that do not take long.

    Raises:
        UsageError: If there is no such case.
    """
    for name in names:
        if name not in CASES:
            raise UsageError(
                f"There is no case {name!r}{did_you_mean(name, list(CASES), cutoff=0.5)} The "
                f"cases are {', '.join(CASES)}."
            )
    return list(dict.fromkeys(names)) or [name for name in CASES if name not in LONG]
