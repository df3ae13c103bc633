"""Which region of a ground truth shares how many pixels with which segment."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffsegkit.metrics.functional.checks import check_ignore_index, check_pair

# A table this large is counted directly however few the pixels are.
_SMALL_TABLE = 1 << 16


class Contingency(NamedTuple):
    """The cells of a contingency table that are not zero, M of them.

    Args:
        regions: ``(M,)`` int64, the region of each cell; all numbers from 0 to the highest occur.
        segments: ``(M,)`` int64, the segment of each cell, numbered likewise.
        counts: ``(M,)`` int64, the pixels of each cell, at least 1.
    """

    regions: Tensor
    segments: Tensor
    counts: Tensor

    @property
    def num_pixels(self) -> int:
        """How many pixels there are."""
        return int(self.counts.sum())

    def region_sizes(self) -> Tensor:
        """``(R,)`` int64 pixels of each region."""
        return _sizes(self.regions, self.counts)

    def segment_sizes(self) -> Tensor:
        """``(S,)`` int64 pixels of each segment."""
        return _sizes(self.segments, self.counts)

    def cells(self) -> list[list[int]]:
        """``[region, segment, pixels]`` of each cell, as plain integers."""
        cells: list[list[int]] = torch.stack(self, dim=1).tolist()
        return cells

    @classmethod
    def from_cells(cls, cells: list[list[int]]) -> "Contingency":
        """The table that :meth:`cells` described.

        Args:
            cells: ``[region, segment, pixels]`` of each cell.

        Returns:
            The table, on the CPU.
        """
        return cls(*torch.tensor(cells, dtype=torch.int64).reshape(-1, 3).unbind(1))


def count_overlaps(preds: Tensor, target: Tensor, ignore_index: int | None = None) -> Contingency:
    """Count the pixels that each region of the ground truth shares with each segment.

    Ids can be any integers and have gaps; only which pixels have the same one matters.

    Args:
        preds: Segment ids, an integer tensor.
        target: Region ids, an integer tensor of the same shape.
        ignore_index: The target's label of pixels that do not count; None if there are none.

    Returns:
        The table, on the CPU.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> count_overlaps(torch.tensor([7, 7, 9]), torch.tensor([4, 4, 4])).cells()
        [[0, 0, 2], [0, 1, 1]]
    """
    segments, regions = check_pair(preds, target)
    ignored = check_ignore_index(ignore_index)
    if ignored is not None:
        counted = regions != ignored
        segments, regions = segments[counted], regions[counted]
    segments, num_segments = close_gaps(segments.flatten())
    regions, num_regions = close_gaps(regions.flatten())
    pairs = regions * num_segments + segments
    if num_regions * num_segments <= max(_SMALL_TABLE, pairs.numel()):
        table = torch.bincount(pairs)
        pairs = table.nonzero()[:, 0]
        counts = table[pairs]
    else:
        pairs, counts = pairs.unique(return_counts=True)  # type: ignore[no-untyped-call]
    pairs, counts = pairs.cpu(), counts.cpu()
    return Contingency(pairs // max(num_segments, 1), pairs % max(num_segments, 1), counts)


def close_gaps(labels: Tensor) -> tuple[Tensor, int]:
    """Number the ids that occur from 0, in their order.

    Args:
        labels: ``(N,)`` int64.

    Returns:
        ``(N,)`` int64 numbers, and how many different there are.
    """
    if not labels.numel():
        return labels, 0
    lowest, highest = (int(bound) for bound in labels.aminmax())
    if highest - lowest < max(_SMALL_TABLE, labels.numel()):
        shifted = labels - lowest
        numbers = torch.bincount(shifted).ne(0).cumsum(0) - 1
        return numbers[shifted], int(numbers[-1]) + 1
    ids, numbered = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    return numbered, len(ids)


def _sizes(owners: Tensor, counts: Tensor) -> Tensor:
    number = int(owners.max()) + 1 if owners.numel() else 0
    return counts.new_zeros(number).index_add_(0, owners, counts)
