"""Upsampling and accumulating attention in PyTorch, for any device and any ratio of grids.

Bilinear interpolation of a map P is two small matrix products, R P C^T; on a CPU that is four times
as fast as resampling it. The sum of the result is known before, P's sum weighted with the column
sums of R and C, so maps are scaled while they are small. What has been upsampled is added while it
is in the cache.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.interfaces.checks import Grid

_BLOCK_BYTES = {"cpu": 2 * 2**20}  # of upsampled maps
_DEFAULT_BLOCK_BYTES = 64 * 2**20


def accumulate_upsampled_reference(
    out: Tensor, probs: Tensor, grid: Grid, target: Grid, weight: float
) -> Tensor:
    """Add upsampled, renormalised and repeated maps to ``out``, a few grid rows at a time.

    Args:
        out: ``(B, Q, H*W)``, float32 or float64, which is also what is computed in.
        probs: ``(B, q, h*w)``, floating point.
        grid: ``(h, w)``.
        target: ``(H, W)``. Where h divides H and w divides W, queries may be bands of grid rows.
        weight: What each map is to sum to.

    Returns:
        ``out``.
    """
    if is_whole(grid, target):
        _add_repeated(out, probs, grid, target, weight)
    else:
        _add_nearest(out, probs, grid, target, weight)
    return out


def resize_keys(probs: Tensor, grid: Grid, target: Grid, weight: float = 1.0) -> Tensor:
    """Bring maps to another grid, and to another sum.

    Bilinear with half-pixel centres. Along an axis that shrinks every key counts, not only the two
    nearest (antialiasing).

    Args:
        probs: ``(..., h*w)``, float32 or float64.
        grid: ``(h, w)``.
        target: ``(H, W)``.
        weight: What each map is to sum to.

    Returns:
        ``(..., H*W)``.
    """
    if grid == target:
        return probs * (weight / probs.sum(-1, keepdim=True))
    return _resize(probs, *_interpolation(grid, target, probs), weight)


def is_whole(grid: Grid, target: Grid) -> bool:
    """Whether each cell of ``grid`` is a block of cells of ``target``."""
    return target[0] % grid[0] == 0 and target[1] % grid[1] == 0


def _add_repeated(out: Tensor, probs: Tensor, grid: Grid, target: Grid, weight: float) -> None:
    """Blocks of queries take the same map, through a view of ``out`` that needs no copies."""
    images, rows, across = len(out), probs.shape[1] // grid[1], target[1] // grid[1]
    maps = probs.view(images, rows, 1, grid[1], 1, probs.shape[2])
    places = out.view(images, rows, -1, grid[1], across, out.shape[2])
    if grid == target:
        # Nothing is held but a sum for each map (and what is widened), so more can be in a block.
        for some in _blocks(rows, out, grid[1], 8):
            block = maps[:, some].to(out.dtype)
            places[:, some].addcmul_(block, weight / block.sum(-1, keepdim=True))
        return
    matrices = _interpolation(grid, target, out)
    for some in _blocks(rows, out, grid[1], 1):
        places[:, some].add_(_resize(maps[:, some].to(out.dtype), *matrices, weight))


def _add_nearest(out: Tensor, probs: Tensor, grid: Grid, target: Grid, weight: float) -> None:
    """Each query of ``target`` takes the map of the nearest of ``grid``, row by row."""
    maps, places = (
        values.view(len(values), *size, values.shape[2])
        for values, size in ((probs, grid), (out, target))
    )
    matrices = _interpolation(grid, target, out)
    columns = torch.tensor(_nearest(grid[1], target[1]), device=out.device)
    taken = -1
    for row, nearest in enumerate(_nearest(grid[0], target[0])):
        if nearest != taken:
            keys = _resize(maps[:, nearest].to(out.dtype), *matrices, weight)[:, columns]
            taken = nearest
        places[:, row].add_(keys)


def _blocks(rows: int, out: Tensor, width: int, factor: int) -> Iterator[slice]:
    """Slices of grid rows, of ``width`` maps each, that stay within a block's bytes."""
    limit = _BLOCK_BYTES.get(out.device.type, _DEFAULT_BLOCK_BYTES) * factor
    at_once = limit // (out.shape[0] * width * out.shape[2] * out.element_size())
    for start in range(0, rows, max(1, at_once)):
        yield slice(start, start + max(1, at_once))


def _nearest(old: int, new: int) -> list[int]:
    """In which of ``old`` cells the centre of each of ``new`` lies: floor((i + 1/2) old / new)."""
    return [(2 * cell + 1) * old // (2 * new) for cell in range(new)]


def _interpolation(grid: Grid, target: Grid, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices ``(H, h)`` and ``(W, w)``, and how much of each of the ``(h*w,)`` keys they sum."""
    down, across, shares = _interpolation_on_cpu(grid, target, like.dtype)
    return down.to(like.device), across.to(like.device), shares.to(like.device)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _interpolation_on_cpu(
    grid: Grid, target: Grid, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Made once, because for a band of a few rows it would take as long as all the rest."""
    down, across = (
        functional.interpolate(
            torch.eye(old, dtype=dtype)[None, None],
            size=(old, new),
            mode="bilinear",
            antialias=new < old,
        )[0, 0].mT.contiguous()
        for old, new in zip(grid, target, strict=True)
    )
    return down, across, torch.outer(down.sum(0), across.sum(0)).flatten()


def _resize(probs: Tensor, down: Tensor, across: Tensor, shares: Tensor, weight: float) -> Tensor:
    """``(..., h*w)`` to ``(..., H*W)``, scaled before it grows."""
    maps = probs * (weight / (probs @ shares))[..., None]
    maps = maps.reshape(*maps.shape[:-1], down.shape[1], across.shape[1])
    resized: Tensor = (down @ maps) @ across.mT
    return resized.flatten(-2)
