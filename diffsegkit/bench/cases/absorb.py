"""Round 0 of DiffSeg's merging: what is close to each anchor, and its sum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.bench import plain
from diffsegkit.bench.case import Case, Contender
from diffsegkit.bench.cases.anchors import Operands, inputs, sizes
from diffsegkit.bench.comparison import largest_change_of_a_map
from diffsegkit.kernels import absorb
from diffsegkit.kernels.pairwise_kl import Precision


def _contenders(device: torch.device) -> Sequence[Contender]:
    contenders = [
        # A map at the threshold may be in or out: one of some hundreds in a sum.
        Contender("diffsegkit", "ours", lambda operands: _ours(operands, "float32"), 1e-2),
        Contender("matrix form", "baseline", lambda operands: plain.absorb(*operands)[1], 1e-2),
        Contender("bare products", "floor", _products),
    ]
    if device.type == "cuda":
        contenders.insert(
            1, Contender("diffsegkit, fast", "ours", lambda operands: _ours(operands, "fast"), 5e-2)
        )
    return contenders


def _ours(operands: Operands, precision: Precision) -> Tensor:
    """``(M, N)`` sums."""
    return absorb(*operands, plain.THRESHOLD, precision=precision)[1]


def _products(operands: Operands) -> Tensor:
    anchors, maps = operands
    first, second = anchors @ maps.T, anchors @ maps.T
    return (first + second) @ maps


CASE = Case(sizes, inputs, _contenders, largest_change_of_a_map)
