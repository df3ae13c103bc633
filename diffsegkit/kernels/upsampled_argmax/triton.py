"""The argmax of upsampled maps on a GPU: one pass over the maps per tile of pixels.

Each thread keeps the largest value so far of a few pixels, and which map it was. The maps are
small and stay in the caches, so what reaches memory are the labels.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.kernels.launch import launch
from diffsegkit.kernels.upsampled_argmax.reference import neighbours

_ROWS, _COLUMNS, _WARPS = 4, 128, 4


@triton.jit
def _anchor(between):
    """How torch.lerp goes from a to b: from the nearer one, a + w (b - a) or b + (w - 1)(b - a)."""
    nearer = between < 0.5
    return nearer, tl.where(nearer, between, between - 1.0)


@triton.jit
def _lerp(a, b, nearer, weight):
    # Rounded once, as in PyTorch: where two maps are nearly equal, both agree on which is larger.
    return tl.fma(weight, b - a, tl.where(nearer, a, b))


@triton.jit
def _upsampled_argmax_kernel(
    maps, upper, lower, down, left, right, across, labels,
    number, stride, grid_width, height, width, tiles_across,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    rows = (tile // tiles_across) * ROWS + tl.arange(0, ROWS)
    columns = (tile % tiles_across) * COLUMNS + tl.arange(0, COLUMNS)
    down_inside, across_inside = rows < height, columns < width
    # Past the end everything is at the first cell, which exists.
    above = tl.load(upper + rows, mask=down_inside, other=0).to(tl.int64)[:, None] * grid_width
    below = tl.load(lower + rows, mask=down_inside, other=0).to(tl.int64)[:, None] * grid_width
    near_above, weight_down = _anchor(tl.load(down + rows, mask=down_inside, other=0.0)[:, None])
    west = tl.load(left + columns, mask=across_inside, other=0)[None, :]
    east = tl.load(right + columns, mask=across_inside, other=0)[None, :]
    near_west, weight_across = _anchor(
        tl.load(across + columns, mask=across_inside, other=0.0)[None, :]
    )
    best = tl.full((ROWS, COLUMNS), -float("inf"), tl.float32)
    label = tl.zeros((ROWS, COLUMNS), tl.int32)
    for index in range(number):
        above_west = tl.load(maps + above + west).to(tl.float32)
        above_east = tl.load(maps + above + east).to(tl.float32)
        below_west = tl.load(maps + below + west).to(tl.float32)
        below_east = tl.load(maps + below + east).to(tl.float32)
        # The columns first, as in the reference.
        top = _lerp(above_west, above_east, near_west, weight_across)
        bottom = _lerp(below_west, below_east, near_west, weight_across)
        value = _lerp(top, bottom, near_above, weight_down)
        # The first of equals stays, and NaN is not larger than anything.
        larger = value > best
        best = tl.where(larger, value, best)
        label = tl.where(larger, index, label)
        maps += stride
    places = rows.to(tl.int64)[:, None] * width + columns[None, :]
    inside = down_inside[:, None] & across_inside[None, :]
    tl.store(labels + places, label.to(tl.int64), mask=inside)


def upsampled_argmax_triton(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels of the pixels.

    Args:
        maps: ``(K, h, w)``, float32, float16 or bfloat16, contiguous.
        size: ``(H, W)`` in pixels.

    Returns:
        ``(H, W)`` int64.
    """
    number, *grid = maps.shape
    height, width = size
    labels = torch.empty(size, dtype=torch.int64, device=maps.device)
    tiles_across = triton.cdiv(width, _COLUMNS)
    launch(
        _upsampled_argmax_kernel, (triton.cdiv(height, _ROWS) * tiles_across,), maps,
        maps, *_neighbours_on(maps.device, grid[0], height),
        *_neighbours_on(maps.device, grid[1], width), labels,
        number, grid[0] * grid[1], grid[1], height, width, tiles_across,
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
    )  # fmt: skip
    return labels


# Images of one size follow each other, and each copy to a GPU waits for what the GPU is doing.
@lru_cache(maxsize=16)
def _neighbours_on(device: torch.device, cells: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    before, after, between = neighbours(cells, pixels)
    return before.int().to(device), after.int().to(device), between.float().to(device)
