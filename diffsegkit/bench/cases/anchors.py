"""The distance of DiffSeg's anchors to all maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.bench.attention import region_attention
from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import largest_difference
from diffsegkit.bench.plain import broadcast_distance, distance
from diffsegkit.kernels import pairwise_kl

Operands = tuple[Tensor, Tensor]
"""Anchors ``(M, N)`` and maps ``(N, N)``."""


def sizes(_: torch.device) -> Sequence[Size]:
    """The same on every device."""
    return [{"anchors": 256, "maps": 4096}]


def inputs(setting: Setting) -> Operands:
    """Evenly spaced anchors, and the maps of a grid.

    Args:
        setting: With ``anchors`` and ``maps``.
    """
    side = round(setting["maps"] ** 0.5)
    maps = region_attention([side], 1, setting.device)[side][0]
    return maps[:: len(maps) // setting["anchors"]].contiguous(), maps


def _contenders(device: torch.device) -> Sequence[Contender]:
    contenders = [
        Contender("diffsegkit", "ours", lambda operands: pairwise_kl(*operands), 1e-3),
        Contender("matrix form", "baseline", lambda operands: distance(*operands), 1e-3),
        Contender("bare products", "floor", _products),
    ]
    if device.type == "cuda":
        # On two cores the broadcast takes half a minute; pairwise-kl has it at a smaller size.
        contenders += [
            Contender("broadcast", "baseline", lambda xy: broadcast_distance(*xy), 1e-3),
            Contender(
                "diffsegkit, fast", "ours", lambda xy: pairwise_kl(*xy, precision="fast"), 2e-2
            ),
            Contender("bare products, float16", "floor", _products, prepare=_half),
        ]
    return contenders


def _half(operands: Operands) -> Operands:
    return operands[0].half(), operands[1].half()


def _products(operands: Operands) -> Operands:
    # Time does not depend on the values, so the logarithms are left out.
    anchors, maps = operands
    return anchors @ maps.T, anchors @ maps.T


CASE = Case(sizes, inputs, _contenders, largest_difference)
