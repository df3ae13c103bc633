"""An aggregate in half the memory."""

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention, SourceOutput
from diffsegkit.interfaces.attention import take_rows
from diffsegkit.interfaces.checks import Grid
from diffsegkit.interfaces.half import from_half

# What is widened at a time, in entries: 16 MiB in float32.
_ENTRIES_AT_ONCE = 2**22


class HalfAttention(AggregatedAttention):
    """Rows kept in float16, times 2**15, and widened when they are asked for.

    Args:
        scaled: ``(B, N, N)`` float16, from :func:`diffsegkit.interfaces.half.to_half`.
        grid: ``(h, w)`` in cells.
        source: The output it was made from.
    """

    def __init__(self, scaled: Tensor, grid: Grid, source: SourceOutput | None = None) -> None:
        # The base is frozen, and its `probs` are computed here.
        for name, value in (("_scaled", scaled), ("grid", grid), ("source", source)):
            object.__setattr__(self, name, value)

    _scaled: Tensor

    @property
    def probs(self) -> Tensor:
        """``(B, N, N)`` float32, made anew each time; :meth:`rows` gives parts of it."""
        return from_half(self._scaled)

    def __repr__(self) -> str:
        return f"HalfAttention(batch_size={self.batch_size}, grid={self.grid})"

    @property
    def batch_size(self) -> int:
        """How many images."""
        return len(self._scaled)

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._scaled.device

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
            ``(B, M, N)`` float32, each row divided by its sum.
        """
        return from_half(take_rows(self._scaled, index))

    def select(self, images: slice) -> "HalfAttention":
        """The same for some images of the batch; views, not copies."""
        source = None if self.source is None else self.source.select(images)
        return HalfAttention(self._scaled[images], self.grid, source)
