"""Proposals to a label map: of Stable Diffusion's 512 pixels, and of a larger photo."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.bench import plain
from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import share_of_pixels
from diffsegkit.interfaces import Proposals

_WIDTH = 0.2  # of a proposal, in widths of the image


def _sizes(_: torch.device) -> Sequence[Size]:
    return [{"proposals": 12, "cells": 64, "pixels": pixels} for pixels in (512, 2048)]


def _inputs(setting: Setting) -> tuple[Tensor, int]:
    """Noisy proposals around random centres, ``(K, h, w)``, and the pixels."""
    count, cells = setting["proposals"], setting["cells"]
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(count, 2, generator=generator)
    axis = (torch.arange(cells) + 0.5) / cells
    far = torch.cdist(centres, torch.cartesian_prod(axis, axis))
    noise = 0.1 * torch.randn(far.shape, generator=generator)
    maps = torch.softmax(noise - (far / _WIDTH).square(), 1)
    return maps.reshape(count, cells, cells).to(setting.device), setting["pixels"]


def _contenders(_: torch.device) -> Sequence[Contender]:
    return [
        Contender("diffsegkit", "ours", lambda inputs: _ours(*inputs), 1e-4),
        Contender("plain PyTorch", "baseline", lambda inputs: _plain(*inputs), 1e-4),
    ]


def _ours(maps: Tensor, pixels: int) -> Tensor:
    labels: Tensor = ArgmaxAssigner()([Proposals(maps)], (pixels, pixels))
    return labels[0]


def _plain(maps: Tensor, pixels: int) -> Tensor:
    return plain.assign(maps.flatten(1), pixels)


CASE = Case(_sizes, _inputs, _contenders, share_of_pixels)
