"""DiffSeg's merging: iterative, by KL divergence, from a grid of anchors."""

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from diffsegkit.errors import MergingError
from diffsegkit.interfaces import AggregatedAttention, Merger, MergingRound, Proposals
from diffsegkit.kernels import absorb, greedy_groups, pairwise_kl
from diffsegkit.mergers.anchors import AnchorSampler, GridAnchors
from diffsegkit.mergers.lloyd import lloyd


class IterativeKLMerger(Merger):
    """Merges maps that are close to each other, round by round (paper, section 3.3).

    Round 0: each anchor becomes the mean of *all* maps closer to it than the first threshold; a
    map can serve several anchors. Later rounds: the proposals are walked in order; one that is
    already taken is skipped; otherwise every proposal closer than the round's threshold is
    averaged into a new proposal, and taken. So the result depends on the order of the anchors.

    Args:
        thresholds: One distance per round, in nats (see ``pairwise_kl``); a number alone is one
            round. Thresholds suit one backbone: those for Stable Diffusion are (1.1, 1.1, 1.1) on
            COCO-Stuff and (0.9, 0.9, 0.9) in the original's demo.
        points_per_side: Anchors along each axis of the grid, at most its cells.
        anchors: Where merging starts; ``GridAnchors`` by default.
        overlap: Whether a proposal that is already taken may enter later means too, as in the
            original. Some ports exclude it.
        refine: Whether K-means over all maps, initialised with the proposals, has the last word,
            as in the original's demo.
        anchor_precision: ``"float16"`` reproduces the original's round 0, which rounds maps and
            threshold to float16: an entry below 3e-8 becomes zero, its map matches nothing, and
            an anchor on it vanishes.

    Raises:
        ValueError: If a threshold is not a positive number, there is none, ``points_per_side`` is
            below 1, or ``anchor_precision`` is unknown.
        MergingError: In float16 mode, if every anchor vanished (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> two_blocks = torch.block_diag(torch.full((8, 8), 1 / 8), torch.full((8, 8), 1 / 8))
        >>> aggregated = AggregatedAttention(two_blocks[None], grid=(4, 4))
        >>> [proposals] = IterativeKLMerger(points_per_side=4)(aggregated)
        >>> [merging_round.count for merging_round in proposals.rounds]
        [16, 2, 2]
    """

    def __init__(
        self,
        thresholds: float | Sequence[float] = (1.1, 1.1, 1.1),
        points_per_side: int = 16,
        anchors: AnchorSampler | None = None,
        overlap: bool = True,
        refine: bool = False,
        anchor_precision: Literal["float32", "float16"] = "float32",
    ) -> None:
        super().__init__()
        if points_per_side < 1:
            raise ValueError(
                f"Expected argument `points_per_side` to be at least 1, but got {points_per_side}."
            )
        if anchor_precision not in ("float32", "float16"):
            raise ValueError(
                "Expected argument `anchor_precision` to be 'float32' or 'float16', but got "
                f"{anchor_precision!r}."
            )
        self.thresholds = _positive(thresholds)
        self.points_per_side = points_per_side
        self.anchors = GridAnchors() if anchors is None else anchors
        self.overlap = overlap
        self.refine = refine
        self.anchor_precision = anchor_precision

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: Sequence[int] | None = None,  # noqa: ARG002
    ) -> list[Proposals]:
        """Merge each image's maps.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            num_segments: Not looked at.

        Returns:
            B proposals, with one record per round.
        """
        anchors = self.anchors(aggregated, self.points_per_side)
        if isinstance(anchors, Tensor) and anchors.ndim == 1:
            anchors = [anchors] * aggregated.batch_size
        return [
            self._merge_image(aggregated.select(slice(image, image + 1)), own)
            for image, own in enumerate(anchors)
        ]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"thresholds={self.thresholds}, points_per_side={self.points_per_side}, "
            f"overlap={self.overlap}, refine={self.refine}, "
            f"anchor_precision={self.anchor_precision!r}"
        )

    def _merge_image(self, aggregated: AggregatedAttention, anchors: Tensor) -> Proposals:
        maps, first = self._absorb(aggregated, anchors, self.thresholds[0])
        rounds = [first]
        for threshold in self.thresholds[1:]:
            maps, merged = _merge_round(maps, threshold, self.overlap)
            rounds.append(merged)
        if self.refine:
            maps = lloyd(aggregated, maps)
        return Proposals(maps.reshape(-1, *aggregated.grid), rounds)

    def _absorb(
        self, aggregated: AggregatedAttention, anchors: Tensor, threshold: float
    ) -> tuple[Tensor, MergingRound]:
        """Round 0: the mean of all maps close to each anchor.

        The N maps pass by once, in blocks: their distances to the anchors, and the sums of those
        that are close. Neither the logarithm of all maps nor a second pass is needed.

        Args:
            aggregated: One image, ``(1, N, N)``.
            anchors: ``(M,)`` int64 locations.
            threshold: In nats.

        Returns:
            The means ``(M', N)``, of the anchors that matched anything, and the record.
        """
        half = self.anchor_precision == "float16"
        if half:
            threshold = float(torch.tensor(threshold, dtype=torch.float16))
        num_locations, step = aggregated.num_locations, aggregated.rows_at_once
        centres = aggregated.rows(anchors)[0]
        sums = torch.zeros_like(centres)
        centres = _rounded(centres) if half else centres
        parts = []
        for start in range(0, num_locations, step):
            maps = aggregated.rows(slice(start, start + step))[0]
            part, _ = absorb(
                centres,
                _rounded(maps) if half else maps,
                threshold,
                # In float16 an anchor that vanished has not even itself.
                locations=None if half else anchors - start,
                values=maps,
                out=sums,
            )
            parts.append(part)
        members = torch.cat(parts, dim=1)
        if half:
            members, sums, anchors = _without_vanished(members, sums, anchors)
        means = sums / members.sum(1, keepdim=True)
        return means, MergingRound(members, anchors, threshold)


def _positive(thresholds: float | Sequence[float]) -> tuple[float, ...]:
    """One threshold per round, as plain numbers."""
    try:
        each = [thresholds] if isinstance(thresholds, Real) else list(thresholds)  # type: ignore[arg-type]
        rounds = tuple(float(value) for value in each)
    except (TypeError, ValueError):
        rounds = ()
    if not rounds or not all(isfinite(value) and value > 0 for value in rounds):
        raise ValueError(
            "Expected argument `thresholds` to be one or more positive distances in nats, but got "
            f"{thresholds!r}."
        )
    return rounds


def _without_vanished(
    members: Tensor, sums: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Only the anchors that matched anything; in float32 that is every one."""
    found = members.any(1)
    if not bool(found.any()):
        raise MergingError(
            f"None of the {len(anchors)} anchors matched a map, because in float16 every one of "
            'them has a zero entry; use anchor_precision="float32".'
        )
    return members[found], sums[found], anchors[found]


def _rounded(maps: Tensor) -> Tensor:
    """Maps as the original's round 0 compares them: in float16.

    There a zero entry makes the distance NaN, and NaN < threshold is false. So a map that has one
    is NaN here.
    """
    rounded = maps.half().to(maps.dtype)
    return rounded.masked_fill_((rounded.amin(1) <= 0)[:, None], torch.nan)


def _merge_round(proposals: Tensor, threshold: float, overlap: bool) -> tuple[Tensor, MergingRound]:
    """One round >= 1: proposals ``(K, N)`` to fewer, walking them in order."""
    members, seeds = greedy_groups(pairwise_kl(proposals) < threshold, overlap=overlap)
    means = members.to(proposals.dtype) @ proposals / members.sum(1, keepdim=True)
    return means, MergingRound(members, seeds, threshold)
