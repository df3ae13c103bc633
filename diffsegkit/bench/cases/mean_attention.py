"""Attention of one of Stable Diffusion's finest layers, averaged over its heads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import largest_change_of_a_map
from diffsegkit.kernels import mean_attention

_CHANNELS = 40  # of a head, in Stable Diffusion 1.4 at 64 x 64


def _sizes(device: torch.device) -> Sequence[Size]:
    dtype = "float16" if device.type == "cuda" else "float32"
    return [{"images": 1, "heads": 8, "tokens": 4096, "dtype": dtype}]


def _inputs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Queries and keys, ``(images, heads, tokens, channels)``."""
    shape = (setting["images"], setting["heads"], setting["tokens"], _CHANNELS)
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, str(setting.size["dtype"]))
    q, k = (torch.randn(shape, generator=generator) for _ in range(2))
    return q.to(setting.device, dtype), k.to(setting.device, dtype)


def _contenders(device: torch.device) -> Sequence[Contender]:
    # In float16 the materialised softmax is rounded before it is averaged.
    tolerance = 5e-3 if device.type == "cuda" else 1e-4
    return [
        Contender("diffsegkit", "ours", lambda qk: mean_attention(*qk), tolerance),
        Contender("materialised", "baseline", lambda qk: _materialised(*qk), tolerance),
        Contender("bare products", "floor", lambda qk: _products(*qk)),
    ]


def _materialised(q: Tensor, k: Tensor) -> Tensor:
    """``(images, tokens, tokens)``."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1).mean(1)


def _products(q: Tensor, k: Tensor) -> Tensor:
    """Of one head after the other into the same place, since no head's map is wanted."""
    out = q.new_empty(q.shape[2], k.shape[2])
    for queries, keys in zip(q.flatten(0, 1), k.flatten(0, 1), strict=True):
        torch.mm(queries, keys.mT, out=out)
    return out


CASE = Case(_sizes, _inputs, _contenders, largest_change_of_a_map)
