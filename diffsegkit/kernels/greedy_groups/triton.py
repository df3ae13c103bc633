"""The walk on a GPU: one block walks, and only the number of groups goes to the host.

The flags of what is taken stay in registers. Finding the next seed takes one reduction, so a step
is a group, not a candidate.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.kernels.launch import launch

# Flags of a warp, until a block has all the warps it can: 8 per thread need no other warp soonest.
_FLAGS_PER_WARP = 256
_MAX_WARPS = 16


@triton.jit
def _greedy_groups_kernel(
    close, members, seeds, count, number, OVERLAP: tl.constexpr, BLOCK: tl.constexpr
):
    candidates = tl.arange(0, BLOCK)
    inside = candidates < number
    taken = tl.zeros((BLOCK,), tl.int1)
    found = 0
    seed = 0
    while seed < number:
        row = tl.cast(seed, tl.int64) * number
        group = tl.load(close + row + candidates, mask=inside, other=False)
        if not OVERLAP:
            group = group & ~taken
        taken = taken | group
        place = tl.cast(found, tl.int64) * number
        tl.store(members + place + candidates, group, mask=inside)
        tl.store(seeds + found, seed)
        found += 1
        # Ahead, so that a seed whose group lacks it comes only once.
        seed = tl.min(tl.where(taken | (candidates <= seed), BLOCK, candidates))
    tl.store(count, found)


def greedy_groups_triton(close: Tensor, overlap: bool) -> tuple[Tensor, Tensor]:
    """Groups by a walk on the GPU.

    Args:
        close: ``(K, K)`` bool, contiguous.
        overlap: Whether a candidate that is taken may enter later groups.

    Returns:
        Members ``(count, K)`` bool and seeds ``(count,)`` int64.
    """
    members, seeds, count = walk_triton(close, overlap)
    found = int(count)
    # Copies, so that what is kept of a round is not as large as its matrix.
    return members[:found].clone(), seeds[:found].clone()


def walk_triton(close: Tensor, overlap: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same without waiting for the GPU.

    Args:
        close: ``(K, K)`` bool, contiguous.
        overlap: Whether a candidate that is taken may enter later groups.

    Returns:
        Members ``(K, K)`` bool and seeds ``(K,)`` int64, undefined after the last group, and
        ``(1,)`` int32, how many groups there are.
    """
    number = len(close)
    members = torch.empty_like(close)
    seeds = torch.empty(number, dtype=torch.int64, device=close.device)
    count = torch.empty(1, dtype=torch.int32, device=close.device)
    block = max(triton.next_power_of_2(number), 32)
    launch(
        _greedy_groups_kernel, (1,), close, close, members, seeds, count, number,
        OVERLAP=overlap, BLOCK=block,
        num_warps=min(max(block // _FLAGS_PER_WARP, 1), _MAX_WARPS),
    )  # fmt: skip
    return members, seeds, count
