"""Attention of several grids, added up at one grid: whole, or only some of its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffsegkit.interfaces import AttentionMap
from diffsegkit.interfaces.attention import take_rows
from diffsegkit.interfaces.checks import Grid
from diffsegkit.kernels import accumulate_upsampled
from diffsegkit.kernels.accumulate_upsampled.reference import resize_keys

# Rows that are computed at a time on a CPU: what its cache holds is added to before it is written
# to memory. A GPU takes all of them.
_BAND_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Level:
    """All layers of one grid, and their share of the aggregate.

    Args:
        maps: One or several, of one grid.
        weight: What each row of their mean is to sum to.
    """

    maps: Sequence[AttentionMap]
    weight: float

    @property
    def grid(self) -> Grid:
        """``(h, w)`` in cells."""
        return self.maps[0].grid

    def rows(self, index: Tensor | slice) -> Tensor:
        """The mean over the layers of some query locations, averaged ones counting fully.

        Args:
            index: ``(M,)`` int64 for all images alike, ``(B, M)`` for each its own, or a slice
                (which copies nothing when there is one layer, in float32).

        Returns:
            ``(B, M, n)`` float32.
        """
        layers = sum(layer.count for layer in self.maps)
        mean = take_rows(self.maps[0].probs, index).float()
        if len(self.maps) == 1:
            return mean
        mean = mean * (self.maps[0].count / layers)
        for layer in self.maps[1:]:
            mean.add_(take_rows(layer.probs, index), alpha=layer.count / layers)
        return mean

    def select(self, images: slice) -> "Level":
        """The same for some images of the batch; views, not copies."""
        return replace(self, maps=[layer.select(images) for layer in self.maps])


def add_levels(out: Tensor, levels: Sequence[Level], target: Grid, first: int, last: int) -> None:
    """Add the aggregate of some rows of the target grid.

    Args:
        out: ``(B, (last - first) * W, H * W)`` float32, added to in place.
        levels: Whose weighted sum it is.
        target: ``(H, W)``.
        first: The first row of the grid (not of ``out``).
        last: The one after the last.
    """
    for level in levels:
        if is_whole_ratio(level.grid, target):
            _add_band(out, level, target, first, last)
        elif (first, last) == (0, target[0]):
            everything = level.rows(slice(None))
            accumulate_upsampled(out, everything, level.grid, level.weight, target=target)
        else:
            index = torch.arange(first * target[1], last * target[1], device=out.device)
            out += _rows_of_level(level, target, index)


def sum_levels(levels: Sequence[Level], target: Grid, index: Tensor) -> Tensor:
    """The aggregate of some locations of the target grid, wherever they lie.

    Args:
        levels: Whose weighted sum it is.
        target: ``(H, W)``.
        index: ``(M,)`` int64 for all images alike, or ``(B, M)`` for each its own.

    Returns:
        ``(B, M, H * W)`` float32.
    """
    total = _rows_of_level(levels[0], target, index)
    for level in levels[1:]:
        total += _rows_of_level(level, target, index)
    return total


def bands(levels: Sequence[Level], target: Grid) -> Iterator[tuple[int, int]]:
    """Cut the target grid into bands of rows, ``(first, last)``, that fit a cache."""
    probs = levels[0].maps[0].probs
    step = target[0]
    if probs.device.type == "cpu":
        row_bytes = 4 * len(probs) * target[1] * target[0] * target[1]
        # Whole multiples of the largest ratio: a coarse row is then upsampled once.
        ratio = max(-(-target[0] // level.grid[0]) for level in levels)
        step = max(1, _BAND_BYTES // row_bytes)
        step = step // ratio * ratio or step
    for first in range(0, target[0], step):
        yield first, min(first + step, target[0])


def is_whole_ratio(grid: Grid, target: Grid) -> bool:
    """Whether every cell of ``grid`` is the same whole number of cells of ``target``."""
    return target[0] % grid[0] == 0 and target[1] % grid[1] == 0


def _add_band(out: Tensor, level: Level, target: Grid, first: int, last: int) -> None:
    """Whole rows of the level's grid together; at the ends perhaps only parts of one."""
    width, ratio = level.grid[1], target[0] // level.grid[0]
    row = first
    while row < last:
        coarse = row // ratio
        if row % ratio or last - row < ratio:
            stop, coarse_stop = min(last, (coarse + 1) * ratio), coarse + 1
        else:
            coarse_stop = last // ratio
            stop = coarse_stop * ratio
        accumulate_upsampled(
            out[:, (row - first) * target[1] : (stop - first) * target[1]],
            level.rows(slice(coarse * width, coarse_stop * width)),
            level.grid,
            level.weight,
            target=target,
        )
        row = stop


def _rows_of_level(level: Level, target: Grid, index: Tensor) -> Tensor:
    """``(B, M, N)``: the maps nearest to some locations of ``target``, upsampled."""
    # floor((i + 1/2) n / N) in whole numbers: the cell in which the centre of cell i lies.
    row, column = (
        (2 * place + 1) * old // (2 * new)
        for place, old, new in zip(
            (index // target[1], index % target[1]), level.grid, target, strict=True
        )
    )
    nearest = level.rows(row * level.grid[1] + column)
    return resize_keys(nearest, level.grid, target, level.weight)
