"""The paper's baselines: K-means over the attention maps."""

from collections.abc import Sequence
from math import log
from operator import index

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention, Merger, Proposals
from diffsegkit.mergers.lloyd import ROW_BLOCK, lloyd


class KMeansMerger(Merger):
    """K-means over all maps of an image (K-Means-C and K-Means-S of the paper, section 4).

    With a constant number of segments it is K-Means-C; with the number of segments of each image
    given per call it is the oracle K-Means-S. Initialised by greedy k-means++, then Lloyd's
    algorithm, as scikit-learn does it.

    Args:
        num_segments: K; the paper's constant for COCO-Stuff is 6.
        seed: Of k-means++; equal seeds give equal results on any device and in any batch.

    Raises:
        ValueError: If K is below 1 or above the number of locations, or if ``num_segments``
            per call is not one number per image.
        TypeError: If a number per call is not an integer.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> two_blocks = torch.block_diag(torch.full((8, 8), 1 / 8), torch.full((8, 8), 1 / 8))
        >>> aggregated = AggregatedAttention(two_blocks[None], grid=(4, 4))
        >>> [proposals] = KMeansMerger(num_segments=2)(aggregated)
        >>> len(proposals)
        2
    """

    def __init__(self, num_segments: int = 6, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(num_segments, int) or num_segments < 1:
            raise ValueError(
                "Expected argument `num_segments` to be an integer, at least 1, but got "
                f"{num_segments!r}."
            )
        self.num_segments = num_segments
        self.seed = seed

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: Sequence[int] | None = None,
    ) -> list[Proposals]:
        """Cluster each image's maps.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            num_segments: K of each image, B numbers; without it the constant.

        Returns:
            B proposals, the cluster means.
        """
        batch = aggregated.batch_size
        each = [self.num_segments] * batch if num_segments is None else [*map(index, num_segments)]
        if len(each) != batch:
            raise ValueError(
                f"Expected argument `num_segments` to hold one number for each of {batch} images, "
                f"but got {len(each)}."
            )
        for number in each:
            if not 1 <= number <= aggregated.num_locations:
                raise ValueError(
                    f"Expected `num_segments` between 1 and the {aggregated.num_locations} "
                    f"locations of the grid, but got {number}."
                )
        return [
            self._cluster(aggregated.select(slice(image, image + 1)), number)
            for image, number in enumerate(each)
        ]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"num_segments={self.num_segments}, seed={self.seed}"

    def _cluster(self, aggregated: AggregatedAttention, number: int) -> Proposals:
        # On the CPU, so that the same seed starts from the same maps on every device.
        generator = torch.Generator().manual_seed(self.seed)
        means = lloyd(aggregated, _plus_plus(aggregated, number, generator))
        return Proposals(means.reshape(-1, *aggregated.grid))


def _plus_plus(aggregated: AggregatedAttention, number: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: of several random candidates take the one that helps most.

    Args:
        aggregated: One image, ``(1, N, N)``.
        number: How many to choose, K.
        generator: The randomness, on the CPU.

    Returns:
        ``(K, N)``, K of the maps.
    """
    trials = 2 + int(log(number))  # scikit-learn's choice
    first = torch.randint(aggregated.num_locations, (1,), generator=generator)
    chosen, nearest = first, _squared_distances(aggregated, first)[0]
    while len(chosen) < number:
        weights = nearest.double().cpu()
        # All maps alike: nothing is far from what is chosen, so any map is as good.
        weights = torch.where(weights.sum() > 0, weights, torch.ones_like(weights))
        candidates = torch.multinomial(weights, trials, replacement=True, generator=generator)
        remaining = torch.minimum(_squared_distances(aggregated, candidates), nearest)
        best = int(remaining.sum(1).argmin())
        chosen, nearest = torch.cat([chosen, candidates[best : best + 1]]), remaining[best]
    return aggregated.rows(chosen.to(aggregated.device))[0]


def _squared_distances(aggregated: AggregatedAttention, index: Tensor) -> Tensor:
    """``(M, N)`` squared Euclidean distances of some maps to all, which pass by in blocks."""
    chosen = aggregated.rows(index.to(aggregated.device))[0]
    norms = chosen.square().sum(1, keepdim=True)
    blocks = []
    for start in range(0, aggregated.num_locations, ROW_BLOCK):
        maps = aggregated.rows(slice(start, start + ROW_BLOCK))[0]
        blocks.append(norms + maps.square().sum(1) - 2 * chosen @ maps.mT)
    return torch.cat(blocks, dim=1).clamp_min_(0)
