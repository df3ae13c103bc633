"""What a source produces and an aggregator makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffsegkit.interfaces.checks import (
    Grid,
    check_distributions,
    check_grid,
    validation,
    validation_enabled,
)
from diffsegkit.interfaces.prompts import TokenisedPrompt
from diffsegkit.interfaces.proposals import Proposals


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Self-attention of one layer, or the mean over several layers of one grid.

    Row ``q`` of ``probs`` is the attention map of query location ``q``: a distribution over all
    key locations. Locations are numbered row by row.

    Args:
        probs: ``(B, h*w, h*w)``, floating point, averaged over heads; every row sums to 1.
        grid: ``(h, w)`` in cells; it need not be square.
        name: Which layer it is, for messages and for selecting layers.
        count: How many layers were averaged into it, so that weighting by layer stays right.

    Raises:
        ValueError: If the shape does not agree with the grid, a row is no distribution, or the
            count is below 1. See :func:`diffsegkit.validation` to switch this off.

    Example:
        >>> import torch
        >>> attention = AttentionMap(torch.full((1, 6, 6), 1 / 6), grid=(2, 3))
        >>> attention.grid
        (2, 3)
    """

    probs: Tensor
    grid: Grid
    name: str = ""
    count: int = 1

    def __post_init__(self) -> None:
        if not validation_enabled():
            return
        label = f"the attention map {self.name!r}" if self.name else "the attention map"
        _check_square_attention(self.probs, self.grid, label)
        if self.count < 1:
            raise ValueError(f"Expected the count of {label} to be at least 1, got {self.count}.")

    def select(self, images: slice) -> "AttentionMap":
        """The same map for some images of the batch; a view, not a copy."""
        with validation(False):  # checked when the whole was made
            return replace(self, probs=self.probs[images])


@dataclass(frozen=True, eq=False)
class SourceOutput:
    """Everything a backbone offers for a batch of images.

    Args:
        attention: Self-attention at one or several grids.
        features: Feature maps ``(B, C, h, w)``, for mergers whose paper needs them.
        cross: Image-to-text attention ``(B, T, h, w)``, one tensor per grid or layer: how much each
            location attends to each of T tokens; over the tokens it sums to 1.
        proposals: Proposals that the backbone yields by itself, one per image.
        images: What the source saw, ``(B, 3, H, W)``, float in [0, 1].
        prompts: What the tokens of ``cross`` stand for, one per image.

    Raises:
        ValueError: If there is neither attention nor features, cross-attention or proposals, or
            if the parts differ in batch size.
    """

    attention: Sequence[AttentionMap]
    features: Sequence[Tensor] = ()
    cross: Sequence[Tensor] = ()
    proposals: Sequence[Proposals] | None = None
    images: Tensor | None = None
    prompts: Sequence[TokenisedPrompt] | None = None

    def __post_init__(self) -> None:
        if not (self.attention or self.features or self.cross or self.proposals):
            raise ValueError(
                "Expected a source to give attention maps, features, cross-attention or proposals, "
                "but got none."
            )
        sizes = self._batch_sizes()
        if len(sizes) != 1:
            raise ValueError(
                f"Expected every part of a source's output to have one batch size, but got "
                f"{sorted(sizes)}."
            )

    @property
    def batch_size(self) -> int:
        """How many images."""
        return self._batch_sizes().pop()

    def select(self, images: slice) -> "SourceOutput":
        """The same for some images of the batch; views, not copies."""
        return replace(
            self,
            attention=[attention.select(images) for attention in self.attention],
            features=[feature[images] for feature in self.features],
            cross=[cross[images] for cross in self.cross],
            proposals=None if self.proposals is None else self.proposals[images],
            images=None if self.images is None else self.images[images],
            prompts=None if self.prompts is None else self.prompts[images],
        )

    def _batch_sizes(self) -> set[int]:
        return {
            len(part)
            for part in (
                *(attention.probs for attention in self.attention),
                *self.features,
                *self.cross,
                *([] if self.proposals is None else [self.proposals]),
                *([] if self.images is None else [self.images]),
                *([] if self.prompts is None else [self.prompts]),
            )
        }


@dataclass(frozen=True, eq=False)
class AggregatedAttention:
    """One attention map per location of one grid, ``N = h*w``.

    Mergers read it through :meth:`rows` alone, so that a subclass may hold it in half precision
    or compute it in blocks.

    Args:
        probs: ``(B, N, N)``, floating point; every row sums to 1.
        grid: ``(h, w)`` in cells; it need not be square.
        source: The output it was made from, for parts that need features or the image.

    Raises:
        ValueError: If the shape does not agree with the grid or a row is no distribution. See
            :func:`diffsegkit.validation` to switch this off.

    Example:
        >>> import torch
        >>> aggregated = AggregatedAttention(torch.eye(6)[None], grid=(2, 3))
        >>> aggregated.rows(torch.tensor([0, 5])).shape
        torch.Size([1, 2, 6])
    """

    probs: Tensor
    grid: Grid
    source: SourceOutput | None = None

    def __post_init__(self) -> None:
        if validation_enabled():
            _check_square_attention(self.probs, self.grid, "the aggregated attention")

    @property
    def batch_size(self) -> int:
        """How many images."""
        return len(self.probs)

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.probs.device

    @property
    def num_locations(self) -> int:
        """N, the number of locations of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def rows_at_once(self) -> int:
        """How many rows are best asked for at a time, if all are wanted: 256 MiB of them."""
        return max(1, min(self.num_locations, 2**26 // self.num_locations))

    def rows(self, index: Tensor | slice) -> Tensor:
        """The attention maps of some query locations, at least in float32.

        Args:
            index: Locations ``(M,)`` int64 for all images alike, ``(B, M)`` for each image its
                own, or a slice (which copies nothing when ``probs`` is float32).

        Returns:
            ``(B, M, N)``, float32 (float64 if the attention is).
        """
        maps = take_rows(self.probs, index)
        return maps if maps.dtype == torch.float64 else maps.float()

    def select(self, images: slice) -> "AggregatedAttention":
        """The same for some images of the batch; views, not copies."""
        source = None if self.source is None else self.source.select(images)
        with validation(False):  # checked when the whole was made
            return replace(self, probs=self.probs[images], source=source)


def take_rows(probs: Tensor, index: Tensor | slice) -> Tensor:
    """Some rows of ``(B, N, n)``.

    Args:
        probs: Of a batch of B images.
        index: ``(M,)`` int64 for all images alike, ``(B, M)`` for each image its own, or a slice,
            which copies nothing.

    Returns:
        ``(B, M, n)``.
    """
    if isinstance(index, slice) or index.ndim == 1:
        return probs[:, index]
    return probs[torch.arange(len(probs), device=index.device)[:, None], index]


def _check_square_attention(probs: Tensor, grid: Grid, label: str) -> None:
    check_grid(grid, label)
    locations = grid[0] * grid[1]
    if probs.ndim != 3 or probs.shape[1:] != (locations, locations):
        raise ValueError(
            f"Expected {label} on a {grid[0]}x{grid[1]} grid to have shape "
            f"(B, {locations}, {locations}), but got {tuple(probs.shape)}."
        )
    check_distributions(probs, label)
