"""DiffSeg's merging with thresholds that are read off the image."""

from collections.abc import Sequence
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention, Merger, Proposals
from diffsegkit.kernels import pairwise_kl
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit.mergers.anchors import AnchorSampler, GridAnchors
from diffsegkit_walk.thresholds import gap_threshold, otsu_threshold, quantile_threshold

Rule = Literal["otsu", "gap", "quantile"]
"""How a threshold is found; see the functions of these names."""

# What a threshold is where all maps are alike: everything is nearer than that.
_ANYTHING = 1e6


class AutomaticKLMerger(Merger):
    """Iterative merging by KL divergence, as DiffSeg's, without thresholds of one's own.

    A threshold suits one backbone, because distances of attention maps grow with how sharp
    attention is. Here the distances between the anchors' maps of an image say what near and far
    is in it. All rounds have that threshold, times ``factor``: merging averages maps, which brings
    proposals nearer to each other than their members were, so that the rule's own threshold would
    merge on until little is left. The rules follow the distances'
    scale: were all twice as large, the threshold would be too.

    Args:
        rule: ``"otsu"`` parts the distances into small and large ones; ``"gap"`` cuts the
            dendrogram where its height grows most; ``"quantile"`` takes the distance below which
            the share ``quantile`` lies.
        factor: What the threshold is multiplied with. The default is ours: of 0.35 to 1 the best
            on half of 100 photos, for attention of DINOv2 and of ``AffinitySource`` alike.
        quantile: For the rule of that name, from 0 to 1.
        rounds: How many rounds of merging.
        points_per_side: Anchors along each axis of the grid.
        anchors: Where merging starts; ``GridAnchors`` by default.
        overlap: See ``IterativeKLMerger``.
        refine: See ``IterativeKLMerger``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> two_blocks = torch.block_diag(torch.full((8, 8), 1 / 8), torch.full((8, 8), 1 / 8))
        >>> aggregated = AggregatedAttention(two_blocks[None], grid=(4, 4))
        >>> [proposals] = AutomaticKLMerger()(aggregated)
        >>> len(proposals)
        2
    """

    def __init__(
        self,
        rule: Rule = "otsu",
        factor: float = 0.4,
        quantile: float = 0.25,
        rounds: int = 3,
        points_per_side: int = 16,
        anchors: AnchorSampler | None = None,
        overlap: bool = True,
        refine: bool = False,
    ) -> None:
        super().__init__()
        if rule not in get_args(Rule):
            raise ValueError(
                f"Expected argument `rule` to be one of {get_args(Rule)}, but got {rule!r}."
            )
        if not (isfinite(factor) and factor > 0):
            raise ValueError(f"Expected argument `factor` to be above 0, but got {factor}.")
        if not 0 < quantile < 1:
            raise ValueError(f"Expected argument `quantile` between 0 and 1, but got {quantile}.")
        for name, value in (("rounds", rounds), ("points_per_side", points_per_side)):
            if value < 1:
                raise ValueError(f"Expected argument `{name}` to be at least 1, but got {value}.")
        self.rule: Rule = rule
        self.factor = factor
        self.quantile = quantile
        self.rounds = rounds
        self.points_per_side = points_per_side
        self.anchors = GridAnchors() if anchors is None else anchors
        self.overlap = overlap
        self.refine = refine

    @torch.no_grad()
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
            B proposals; each round's record has the threshold that was found.
        """
        return [
            self._merge(aggregated.select(slice(image, image + 1)))
            for image in range(aggregated.batch_size)
        ]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"rule={self.rule!r}, factor={self.factor}, quantile={self.quantile}, "
            f"rounds={self.rounds}, points_per_side={self.points_per_side}, "
            f"overlap={self.overlap}, refine={self.refine}"
        )

    def _merge(self, aggregated: AggregatedAttention) -> Proposals:
        anchors = self.anchors(aggregated, self.points_per_side)
        locations = anchors if isinstance(anchors, Tensor) else anchors[0]
        threshold = self._threshold(aggregated.rows(locations)[0])
        merger = IterativeKLMerger(
            [threshold] * self.rounds,
            self.points_per_side,
            _Chosen(locations),
            self.overlap,
            self.refine,
        )
        merged: list[Proposals] = merger(aggregated)
        return merged[0]

    def _threshold(self, maps: Tensor) -> float:
        distances = pairwise_kl(maps)
        if self.rule == "gap":
            found = gap_threshold(distances)
        else:
            above = distances[torch.ones_like(distances, dtype=torch.bool).triu(1)]
            found = (
                otsu_threshold(above)
                if self.rule == "otsu"
                else quantile_threshold(above, self.quantile)
            )
        # A threshold of 0 would take nothing, not even what is equal.
        return min(max(found * self.factor, 1e-12), _ANYTHING)


class _Chosen(AnchorSampler):
    """Anchors that are chosen already."""

    def __init__(self, locations: Tensor) -> None:
        super().__init__()
        self.locations = locations

    def forward(self, aggregated: AggregatedAttention, points_per_side: int) -> Tensor:  # noqa: ARG002
        return self.locations
