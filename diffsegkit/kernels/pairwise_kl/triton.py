"""Pairwise KL on a GPU: logarithms, both products and the entropies in one pass.

A tile of distances reads its rows of x and y once. In twice the distance,

    2 D = h(x) + h(y) - [x log(y)^T + log(x) y^T],

adding one number to every logarithm changes nothing, so entries are first multiplied with a power
of two near N: what is typical becomes 1, its logarithm 0, and float16 holds both well. A float16
alone is the fast mode. An operand split into two of them (a = high + low, 22 bits together) gives
float32's accuracy in three products, a_high b_high + a_high b_low + a_low b_high, each at twice the
speed of TF32.
"""

from math import log, log2

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.kernels.launch import launch
from diffsegkit.kernels.pairwise_kl.reference import LOG_FLOOR

_MAX_EXPONENT = 15  # an entry of 1 must stay below 65504, float16's largest


@triton.jit
def _halves(values):
    """Two float16 whose sum is the float32."""
    high = values.to(tl.float16)
    return high, (values - high.to(tl.float32)).to(tl.float16)


@triton.jit
def doubled_distances(
    x, y, rows_x, rows_y, stride_x, stride_y, size, scale, floor,
    SPLIT: tl.constexpr, EVEN: tl.constexpr, ROWS_X: tl.constexpr, ROWS_Y: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Twice the distances of a tile, times ``scale``, in bits instead of nats.

    ``rows_x`` and ``rows_y`` must lie inside the matrices; ``size`` is N.
    """
    columns = tl.arange(0, BLOCK)
    x_places = x + rows_x.to(tl.int64)[:, None] * stride_x + columns[None, :]
    y_places = y + rows_y.to(tl.int64)[:, None] * stride_y + columns[None, :]
    crosses = tl.zeros((ROWS_X, ROWS_Y), tl.float32)
    # Summed over the columns at the end: one reduction instead of one per block.
    entropies_x = tl.zeros((ROWS_X, BLOCK), tl.float32)
    entropies_y = tl.zeros((ROWS_Y, BLOCK), tl.float32)
    for start in range(0, size, BLOCK):
        if EVEN:
            own = tl.load(x_places)
            other = tl.load(y_places)
        else:
            # Zeros past the end: x log(y) and x log(x) add nothing there.
            inside = (columns < size - start)[None, :]
            own = tl.load(x_places, mask=inside, other=0.0)
            other = tl.load(y_places, mask=inside, other=0.0)
        own = own.to(tl.float32) * scale
        other = other.to(tl.float32) * scale
        log_own = tl.log2(tl.maximum(own, floor))
        log_other = tl.log2(tl.maximum(other, floor))
        entropies_x += own * log_own
        entropies_y += other * log_other
        if SPLIT:
            own_high, own_low = _halves(own)
            other_high, other_low = _halves(other)
            log_own_high, log_own_low = _halves(log_own)
            log_other_high, log_other_low = _halves(log_other)
            crosses = tl.dot(own_low, tl.trans(log_other_high), crosses)
            crosses = tl.dot(own_high, tl.trans(log_other_low), crosses)
            crosses = tl.dot(own_high, tl.trans(log_other_high), crosses)
            crosses = tl.dot(log_own_low, tl.trans(other_high), crosses)
            crosses = tl.dot(log_own_high, tl.trans(other_low), crosses)
            crosses = tl.dot(log_own_high, tl.trans(other_high), crosses)
        else:
            crosses = tl.dot(own.to(tl.float16), tl.trans(log_other.to(tl.float16)), crosses)
            crosses = tl.dot(log_own.to(tl.float16), tl.trans(other.to(tl.float16)), crosses)
        x_places += BLOCK
        y_places += BLOCK
    return tl.sum(entropies_x, 1)[:, None] + tl.sum(entropies_y, 1)[None, :] - crosses


@triton.jit
def _pairwise_kl_kernel(
    x, y, out, num_x, num_y, size, stride_xb, stride_x, stride_yb, stride_y, stride_ob, stride_o,
    scale, floor, unit,
    SELF: tl.constexpr, SPLIT: tl.constexpr, EVEN: tl.constexpr,
    ROWS_X: tl.constexpr, ROWS_Y: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tile_y, tile_x, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    if SELF:
        # The tiles above the diagonal write those below it too.
        if tile_y < tile_x:
            return
    rows_x = tile_x * ROWS_X + tl.arange(0, ROWS_X)
    rows_y = tile_y * ROWS_Y + tl.arange(0, ROWS_Y)
    distance = doubled_distances(
        x + image * stride_xb, y + image * stride_yb,
        tl.minimum(rows_x, num_x - 1), tl.minimum(rows_y, num_y - 1),
        stride_x, stride_y, size, scale, floor, SPLIT, EVEN, ROWS_X, ROWS_Y, BLOCK,
    )  # fmt: skip
    # Not tl.maximum, which would make a zero of NaN.
    distance = tl.where(distance < 0, 0.0, distance * unit)
    if SELF:
        if tile_x == tile_y:
            # Equal to the last bit on both sides of the diagonal, as everywhere else.
            distance = 0.5 * (distance + tl.trans(distance))
        same = rows_x[:, None] == rows_y[None, :]
        # 0 * NaN is NaN: a row that is no distribution stays visible.
        distance = tl.where(same, distance * 0.0, distance)
    out += image * stride_ob
    places = rows_x.to(tl.int64)[:, None] * stride_o + rows_y[None, :]
    tl.store(out + places, distance, mask=(rows_x < num_x)[:, None] & (rows_y < num_y)[None, :])
    if SELF:
        if tile_x != tile_y:
            places = rows_y.to(tl.int64)[:, None] * stride_o + rows_x[None, :]
            inside = (rows_y < num_y)[:, None] & (rows_x < num_x)[None, :]
            tl.store(out + places, tl.trans(distance), mask=inside)


def pairwise_kl_triton(x: Tensor, y: Tensor | None, split: bool) -> Tensor:
    """Distances ``(B, M, K)`` of ``(B, M, N)`` and ``(B, K, N)``, or of ``x`` with itself.

    Args:
        x: Float32, float16 or bfloat16.
        y: Likewise, or None.
        split: Whether operands are split in two, for float32's accuracy.

    Returns:
        Float32, in nats.
    """
    x = contiguous_rows(x)
    other = x if y is None else contiguous_rows(y)
    batch, num_x, size = x.shape
    num_y = other.shape[1]
    out = torch.empty((batch, num_x, num_y), dtype=torch.float32, device=x.device)
    # All pairs: tiles so large that the tensor cores, not logarithms, take the time, and 4096 of
    # them are four full waves on an H100. Few rows: more tiles than processors first.
    large = y is None or num_x * num_y >= 2048 * 2048
    rows_x, rows_y, block, warps = (128, 128, 32, 8) if large else (64, 64, 32, 8)
    scale, floor, unit = scaling(size)
    grid = (triton.cdiv(num_y, rows_y), triton.cdiv(num_x, rows_x), batch)
    launch(
        _pairwise_kl_kernel, grid, x,
        x, other, out, num_x, num_y, size, x.stride(0), x.stride(1), other.stride(0),
        other.stride(1), out.stride(0), out.stride(1), scale, floor, unit,
        SELF=y is None, SPLIT=split, EVEN=size % block == 0,
        ROWS_X=rows_x, ROWS_Y=rows_y, BLOCK=block, num_warps=warps, num_stages=3,
    )  # fmt: skip
    return out


def scaling(size: int) -> tuple[float, float, float]:
    """What entries of maps of N locations are multiplied with, their smallest, and the unit.

    Args:
        size: N.

    Returns:
        A power of two near N; where logarithms clamp, in that scale; and what makes nats of what
        :func:`doubled_distances` gives.
    """
    scale = 2.0 ** min(round(log2(size)), _MAX_EXPONENT)
    return scale, LOG_FLOOR * scale, log(2) / 2 / scale


def contiguous_rows(values: Tensor) -> Tensor:
    """The same values, copied unless each row lies in one piece."""
    return values if values.stride(-1) == 1 else values.contiguous()
