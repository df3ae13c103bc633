"""Everything after the attention: aggregation, merging and assignment, whole and step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.bench import plain
from diffsegkit.bench.attention import region_attention, sides_of
from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import share_of_pixels
from diffsegkit.interfaces import AggregatedAttention, AttentionMap, Proposals, SourceOutput
from diffsegkit.mergers import IterativeKLMerger

_PIXELS_OF_A_CELL = 8


@dataclass(frozen=True)
class Attention:
    """The inputs.

    Args:
        maps: ``(B, side^2, side^2)`` by side.
        points_per_side: Of the grid of anchors.
    """

    maps: dict[int, Tensor]
    points_per_side: int

    @property
    def pixels(self) -> int:
        """Height and width of the label map."""
        return max(self.maps) * _PIXELS_OF_A_CELL


def _sizes(_: torch.device) -> Sequence[Size]:
    return [{"tokens": 4096, "anchors": 256, "images": 1}]


def inputs(setting: Setting) -> Attention:
    """Attention at four grids.

    Args:
        setting: With ``tokens`` of the finest grid, ``anchors`` and ``images``.
    """
    sides = sides_of(setting["tokens"])
    maps = region_attention(sides, setting["images"], setting.device)
    return Attention(maps, round(setting["anchors"] ** 0.5))


def whole(_: torch.device) -> list[Contender]:
    """Ours, and the plain reading of the original."""
    return [
        Contender("diffsegkit", "ours", _ours, 1e-3),
        Contender("plain PyTorch", "baseline", _plain, 1e-3),
    ]


def _contenders(device: torch.device) -> Sequence[Contender]:
    return [
        *whole(device),
        Contender("bare products", "floor", _products),
        Contender("diffsegkit: aggregate", "part", _aggregate),
        Contender("diffsegkit: merge", "part", _merge, prepare=lambda own: (own, _aggregate(own))),
        Contender("diffsegkit: assign", "part", _assign, prepare=_merged),
    ]


def _ours(attention: Attention) -> Tensor:
    """``(B, pixels, pixels)`` labels."""
    proposals = _merge((attention, _aggregate(attention)))
    return _assign((attention, proposals))


def _aggregate(attention: Attention) -> AggregatedAttention:
    layers = [AttentionMap(probs, (side, side)) for side, probs in attention.maps.items()]
    aggregated: AggregatedAttention = ResolutionAggregator()(SourceOutput(layers))
    return aggregated


def _merge(inputs: tuple[Attention, AggregatedAttention]) -> list[Proposals]:
    attention, aggregated = inputs
    merger = IterativeKLMerger(points_per_side=attention.points_per_side)
    proposals: list[Proposals] = merger(aggregated)
    return proposals


def _merged(attention: Attention) -> tuple[Attention, list[Proposals]]:
    return attention, _merge((attention, _aggregate(attention)))


def _assign(inputs: tuple[Attention, list[Proposals]]) -> Tensor:
    attention, proposals = inputs
    labels: Tensor = ArgmaxAssigner()(proposals, (attention.pixels, attention.pixels))
    return labels


def _plain(attention: Attention) -> Tensor:
    return plain.post_process(attention.maps, attention.points_per_side, attention.pixels)


def _products(attention: Attention) -> Tensor:
    """The three products of anchors and maps that round 0 cannot do without."""
    result: list[Tensor] = []
    for maps in attention.maps[max(attention.maps)]:
        anchors = maps[:: max(1, len(maps) // attention.points_per_side**2)].contiguous()
        first, second = anchors @ maps.T, anchors @ maps.T
        result.append((first + second) @ maps)
    return result[-1]


CASE = Case(_sizes, inputs, _contenders, share_of_pixels)
