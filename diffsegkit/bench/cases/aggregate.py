"""Attention of Stable Diffusion's four grids, brought to the finest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.bench import plain
from diffsegkit.bench.attention import region_attention, sides_of
from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import largest_change_of_a_map
from diffsegkit.interfaces import AggregatedAttention, AttentionMap, SourceOutput


def _sizes(_: torch.device) -> Sequence[Size]:
    return [{"tokens": 4096, "images": 1}]


def _inputs(setting: Setting) -> dict[int, Tensor]:
    return region_attention(sides_of(setting["tokens"]), setting["images"], setting.device)


def _contenders(_: torch.device) -> Sequence[Contender]:
    return [
        Contender("diffsegkit", "ours", _ours, 1e-4),
        Contender("plain PyTorch", "baseline", _plain, 1e-4),
        # Each entry of the finest map must be read, and one of the result written.
        Contender("bare copy", "floor", lambda maps: maps[max(maps)].clone()),
    ]


def _ours(maps: dict[int, Tensor]) -> Tensor:
    attention = [AttentionMap(probs, (side, side)) for side, probs in maps.items()]
    aggregated: AggregatedAttention = ResolutionAggregator()(SourceOutput(attention))
    return aggregated.probs


def _plain(maps: dict[int, Tensor]) -> Tensor:
    images = range(len(maps[max(maps)]))
    return torch.stack(
        [plain.aggregate({side: probs[image] for side, probs in maps.items()}) for image in images]
    )


CASE = Case(_sizes, _inputs, _contenders, largest_change_of_a_map)
