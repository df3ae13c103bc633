"""The distance between all pairs of maps, as refinements and sweeps need it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from diffsegkit.bench.attention import region_attention
from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import largest_difference
from diffsegkit.bench.plain import broadcast_distance, distance
from diffsegkit.kernels import pairwise_kl


def _sizes(device: torch.device) -> Sequence[Size]:
    # On two cores the broadcast of 64 x 64 cells takes minutes, so it is that of 32 x 32.
    return [{"maps": 1024 if device.type == "cpu" else 4096}]


def _inputs(setting: Setting) -> Tensor:
    """All maps of a grid, ``(maps, maps)``."""
    side = round(setting["maps"] ** 0.5)
    return region_attention([side], 1, setting.device)[side][0]


def _contenders(device: torch.device) -> Sequence[Contender]:
    contenders = [
        Contender("diffsegkit", "ours", pairwise_kl, 1e-3),
        Contender("matrix form", "baseline", lambda maps: distance(maps, maps), 1e-3),
        Contender("broadcast", "baseline", lambda maps: broadcast_distance(maps, maps), 1e-3),
        Contender("bare product", "floor", _product, prepare=_operands),
    ]
    if device.type == "cuda":  # on a CPU there is one precision
        fast = partial(pairwise_kl, precision="fast")
        contenders += [
            Contender("diffsegkit, fast", "ours", fast, 2e-2),
            Contender("bare product, float16", "floor", _product, prepare=_half_operands),
        ]
    return contenders


def _operands(maps: Tensor) -> tuple[Tensor, Tensor]:
    # Of all pairs, x log(y)^T is the transpose of log(x) y^T: one product has everything.
    return maps, maps.log().T.contiguous()


def _half_operands(maps: Tensor) -> tuple[Tensor, Tensor]:
    maps, logs = _operands(maps)
    return maps.half(), logs.half()


def _product(operands: tuple[Tensor, Tensor]) -> Tensor:
    return operands[0] @ operands[1]


CASE = Case(_sizes, _inputs, _contenders, largest_difference)
