"""Upsampling and accumulating attention on a GPU, in one pass over the aggregate.

A program takes one map, one of the grid rows it is repeated to, and a block of target keys: it sums
the map, gathers the four neighbours of each key (the map is small and stays in the cache), and adds
the result to every query of the row that takes this map. Where the ratio of the grids is whole,
each coarse key has the same share of the upsampled map, so the map's own sum renormalises it.
"""

import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.interfaces.checks import Grid
from diffsegkit.kernels.launch import launch
from diffsegkit.kernels.pairwise_kl.triton import contiguous_rows


@triton.jit
def _neighbours(fine, size, RATIO: tl.constexpr):
    """Of fine cells: the coarse cells before and after their centres, and how far towards after.

    The centre of a fine cell is (fine + 1/2) / RATIO - 1/2 coarse cells from the first centre. In
    units of 1 / (2 RATIO) that is a whole number, so nothing is rounded.
    """
    position = tl.maximum(2 * fine + (1 - RATIO), 0)
    before = position // (2 * RATIO)
    after = tl.minimum(before + 1, size - 1)
    return before, after, (position % (2 * RATIO)).to(tl.float32) / (2 * RATIO)


@triton.jit
def _accumulate_upsampled_kernel(
    probs, out, num_keys, num_blocks, coarse_height, coarse_width, width, repeats, stride_pb,
    stride_pq, stride_ob, stride_oq, weight,
    RATIO_Y: tl.constexpr, RATIO_X: tl.constexpr, SAME: tl.constexpr, EVEN: tl.constexpr,
    BLOCK: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    place, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    # Blocks of one map follow each other, so that it is read from memory once.
    block, query = place % num_blocks, place // num_blocks
    row, column = query // coarse_width, query % coarse_width
    source = (row // repeats * coarse_width + column).to(tl.int64)
    probs += image * stride_pb + source * stride_pq
    size = coarse_height * coarse_width
    entries = tl.arange(0, SUMMED)
    sums = tl.zeros((SUMMED,), tl.float32)
    for start in range(0, size, SUMMED):
        some = tl.load(probs + start + entries, mask=entries < size - start, other=0.0)
        sums += some.to(tl.float32)
    scale = weight / (RATIO_Y * RATIO_X * tl.sum(sums, 0))

    keys = block * BLOCK + tl.arange(0, BLOCK)
    first = row.to(tl.int64) * width + column * RATIO_X
    places = out + image * stride_ob + first * stride_oq + keys
    inside = keys < num_keys
    if not EVEN:
        # Past the end the last key is computed again, and not stored.
        keys = tl.minimum(keys, num_keys - 1)
    if SAME:
        values = tl.load(probs + keys).to(tl.float32)
    else:
        above, below, downwards = _neighbours(keys // width, coarse_height, RATIO_Y)
        left, right, rightwards = _neighbours(keys % width, coarse_width, RATIO_X)
        above *= coarse_width
        below *= coarse_width
        above_left = tl.load(probs + above + left).to(tl.float32)
        above_right = tl.load(probs + above + right).to(tl.float32)
        below_left = tl.load(probs + below + left).to(tl.float32)
        below_right = tl.load(probs + below + right).to(tl.float32)
        # Not p + t (q - p), which loses a q that is much smaller than p.
        upper = above_left * (1 - rightwards) + above_right * rightwards
        lower = below_left * (1 - rightwards) + below_right * rightwards
        values = upper * (1 - downwards) + lower * downwards
    values *= scale

    for _ in range(RATIO_X):
        if EVEN:
            tl.store(places, tl.load(places) + values)
        else:
            tl.store(places, tl.load(places, mask=inside) + values, mask=inside)
        places += stride_oq


def accumulate_upsampled_triton(
    out: Tensor, probs: Tensor, grid: Grid, target: Grid, weight: float
) -> Tensor:
    """Add upsampled, renormalised and repeated maps to ``out``.

    Args:
        out: ``(B, Q, H*W)`` float32, the last axis contiguous.
        probs: ``(B, q, h*w)``, float32, float16 or bfloat16.
        grid: ``(h, w)``.
        target: ``(H, W)``, whole multiples of it.
        weight: What each map is to sum to.

    Returns:
        ``out``.
    """
    probs = contiguous_rows(probs)
    images, queries, keys = out.shape
    rows = queries // target[1]
    block, summed = (min(triton.next_power_of_2(n), 4096) for n in (keys, probs.shape[2]))
    blocks = triton.cdiv(keys, block)
    launch(
        _accumulate_upsampled_kernel, (blocks * rows * grid[1], images), out,
        probs, out, keys, blocks, *grid, target[1], rows * grid[1] // probs.shape[1],
        probs.stride(0), probs.stride(1), out.stride(0), out.stride(1), weight,
        RATIO_Y=target[0] // grid[0], RATIO_X=target[1] // grid[1], SAME=grid == target,
        EVEN=keys % block == 0, BLOCK=block, SUMMED=summed, num_warps=8,
    )  # fmt: skip
    return out
