"""Round 0 of merging on a GPU: distances are compared where they are computed."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.kernels.launch import launch
from diffsegkit.kernels.pairwise_kl.triton import contiguous_rows, doubled_distances, scaling


@triton.jit
def _mark_close_kernel(
    x, y, members, num_x, num_y, size, stride_x, stride_y, stride_m, scale, floor, limit,
    SPLIT: tl.constexpr, EVEN: tl.constexpr,
    ROWS_X: tl.constexpr, ROWS_Y: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows_x = tl.program_id(1) * ROWS_X + tl.arange(0, ROWS_X)
    rows_y = tl.program_id(0) * ROWS_Y + tl.arange(0, ROWS_Y)
    doubled = doubled_distances(
        x, y, tl.minimum(rows_x, num_x - 1), tl.minimum(rows_y, num_y - 1),
        stride_x, stride_y, size, scale, floor, SPLIT, EVEN, ROWS_X, ROWS_Y, BLOCK,
    )  # fmt: skip
    places = rows_x.to(tl.int64)[:, None] * stride_m + rows_y[None, :]
    inside = (rows_x < num_x)[:, None] & (rows_y < num_y)[None, :]
    tl.store(members + places, (doubled < limit).to(tl.uint8), mask=inside)


@triton.jit
def _add_sums_kernel(
    members, values, sums, num_sums, num_values, size, stride_m, stride_v, stride_s, scale,
    EVEN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    # Rows and columns past the end repeat the last one and are not stored.
    row = tl.minimum(rows, num_sums - 1).to(tl.int64)
    column = tl.minimum(columns, size - 1)
    within = tl.arange(0, BLOCK)
    member_places = members + row[:, None] * stride_m + within[None, :]
    value_places = values + within.to(tl.int64)[:, None] * stride_v + column[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, num_values, BLOCK):
        if EVEN:
            mine = tl.load(member_places)
            block = tl.load(value_places)
        else:
            left = num_values - start
            mine = tl.load(member_places, mask=(within < left)[None, :], other=0)
            block = tl.load(value_places, mask=(within < left)[:, None], other=0.0)
        # A member is 0 or 1, which float16 holds; a value is two of them, as in pairwise_kl.
        mine = mine.to(tl.float16)
        block = block.to(tl.float32) * scale
        high = block.to(tl.float16)
        low = (block - high.to(tl.float32)).to(tl.float16)
        total = tl.dot(mine, low, total)
        total = tl.dot(mine, high, total)
        member_places += BLOCK
        value_places += BLOCK * stride_v.to(tl.int64)
    places = sums + rows.to(tl.int64)[:, None] * stride_s + columns[None, :]
    inside = (rows < num_sums)[:, None] & (columns < size)[None, :]
    tl.store(places, tl.load(places, mask=inside, other=0.0) + total / scale, mask=inside)


def mark_close_triton(
    anchors: Tensor, maps: Tensor, threshold: float, members: Tensor, split: bool
) -> None:
    """Write into ``members`` which distances are below the threshold; none is stored.

    Args:
        anchors: ``(M, N)``, float32, float16 or bfloat16.
        maps: ``(K, N)`` likewise.
        threshold: In nats.
        members: ``(M, K)`` bool, contiguous, overwritten.
        split: Whether operands are split in two, for float32's accuracy.
    """
    anchors, maps = contiguous_rows(anchors), contiguous_rows(maps)
    (num_x, size), num_y = anchors.shape, len(maps)
    rows, block = 64, 32
    scale, floor, unit = scaling(size)
    grid = (triton.cdiv(num_y, rows), triton.cdiv(num_x, rows))
    launch(
        _mark_close_kernel, grid, maps,
        anchors, maps, members.view(torch.uint8), num_x, num_y, size, anchors.stride(0),
        maps.stride(0), members.stride(0), scale, floor, threshold / unit,
        SPLIT=split, EVEN=size % block == 0, ROWS_X=rows, ROWS_Y=rows, BLOCK=block,
        num_warps=8, num_stages=3,
    )  # fmt: skip


def add_sums_triton(members: Tensor, values: Tensor, sums: Tensor) -> None:
    """Add to each sum the values of its members.

    Args:
        members: ``(M, K)`` bool, contiguous.
        values: ``(K, N)``, float32, float16 or bfloat16, none above 1.
        sums: ``(M, N)`` float32 with contiguous rows, changed in place.
    """
    values = contiguous_rows(values)
    (num_sums, num_values), size = members.shape, values.shape[1]
    rows, block, columns = 64, 64, 64
    grid = (triton.cdiv(size, columns), triton.cdiv(num_sums, rows))
    launch(
        _add_sums_kernel, grid, values,
        members.view(torch.uint8), values, sums, num_sums, num_values, size, members.stride(0),
        values.stride(0), sums.stride(0), scaling(size)[0],
        EVEN=num_values % block == 0, ROWS=rows, BLOCK=block, COLUMNS=columns,
        num_warps=4, num_stages=3,
    )  # fmt: skip
