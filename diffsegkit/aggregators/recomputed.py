"""An aggregate that is never in memory as a whole."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from diffsegkit.aggregators.levels import Level, add_levels, is_whole_ratio, sum_levels
from diffsegkit.interfaces import AggregatedAttention, SourceOutput
from diffsegkit.interfaces.checks import Grid

# What is computed at a time, in entries: 16 MiB.
_ENTRIES_AT_ONCE = 2**22


class RecomputedAttention(AggregatedAttention):
    """Rows that are computed from the layers whenever they are asked for.

    A merger that looks at every row once, as DiffSeg's does, pays nothing for it: the rows are
    computed once anyhow, and nothing of N x N is written to memory. One that looks at them many
    times, as K-means does, pays each time.

    Args:
        levels: Whose weighted sum it is.
        grid: ``(H, W)``, the grid of the aggregate.
        source: The output that the levels are from.
    """

    def __init__(
        self, levels: Sequence[Level], grid: Grid, source: SourceOutput | None = None
    ) -> None:
        # The base is frozen, and its `probs` are computed here.
        for name, value in (("_levels", list(levels)), ("grid", grid), ("source", source)):
            object.__setattr__(self, name, value)

    _levels: list[Level]

    @cached_property
    def probs(self) -> Tensor:
        """``(B, N, N)`` float32, computed and kept when somebody asks for it."""
        return self.rows(slice(None))

    def __repr__(self) -> str:
        return f"RecomputedAttention(batch_size={self.batch_size}, grid={self.grid})"

    @property
    def batch_size(self) -> int:
        """How many images."""
        return len(self._levels[0].maps[0].probs)

    @property
    def device(self) -> torch.device:
        """Where the rows are computed."""
        return self._levels[0].maps[0].probs.device

    @property
    def rows_at_once(self) -> int:
        """As many as a cache holds; on a GPU as elsewhere."""
        if self.device.type != "cpu":
            return super().rows_at_once
        return max(1, min(self.num_locations, _ENTRIES_AT_ONCE // self.num_locations))

    def rows(self, index: Tensor | slice) -> Tensor:
        """The attention maps of some query locations.

        Args:
            index: As in the base class; a slice copies too.

        Returns:
            ``(B, M, N)`` float32.
        """
        if "probs" in self.__dict__:
            return super().rows(index)
        if isinstance(index, slice):
            start, stop, step = index.indices(self.num_locations)
            if step == 1 and all(is_whole_ratio(level.grid, self.grid) for level in self._levels):
                return self._band(start, max(start, stop))
            index = torch.arange(start, stop, step, device=self.device)
        # As in indexing, -1 is the last.
        index = torch.where(index < 0, index + self.num_locations, index)
        return sum_levels(self._levels, self.grid, index)

    def select(self, images: slice) -> "RecomputedAttention":
        """The same for some images of the batch; views, not copies."""
        source = None if self.source is None else self.source.select(images)
        levels = [level.select(images) for level in self._levels]
        return RecomputedAttention(levels, self.grid, source)

    def _band(self, start: int, stop: int) -> Tensor:
        """Rows of the grid, as many as the slice touches, and of these the slice."""
        width = self.grid[1]
        first, last = start // width, -(-stop // width)
        shape = (self.batch_size, (last - first) * width, self.num_locations)
        out = torch.zeros(shape, dtype=torch.float32, device=self.device)
        add_levels(out, self._levels, self.grid, first, last)
        return out[:, start - first * width : stop - first * width]
