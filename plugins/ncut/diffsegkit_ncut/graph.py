"""What the mergers that cut graphs have in common: from a batch to one graph per image."""

from abc import abstractmethod
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention, Merger, Proposals
from diffsegkit_ncut.affinity import (
    Affinity,
    FeatureMaps,
    attention_affinity,
    check_between,
    check_choice,
    cosine_affinity,
    joined_features,
)
from diffsegkit_ncut.eigen import Eigensolver


class GraphCutMerger(Merger):
    """A merger that cuts the graph of an image's locations into parts.

    The grid is that of what is compared: of the features, or of the attention. Parts are numbered
    by their first location, row by row, so that equal partitions are equal tensors.

    Args:
        alpha: The power of the cosines, see :func:`~diffsegkit_ncut.cosine_affinity`.
        affinity: ``"features"`` compares features of the source, ``"attention"`` takes attention
            itself as weights (``alpha`` has no part in it).
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.
        eigensolver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        alpha: float = 10.0,
        affinity: Affinity = "features",
        feature_maps: FeatureMaps = "last",
        eigensolver: Eigensolver = "auto",
    ) -> None:
        super().__init__()
        check_choice("affinity", affinity, Affinity)
        check_choice("feature_maps", feature_maps, FeatureMaps)
        check_choice("eigensolver", eigensolver, Eigensolver)
        self.alpha = check_between("alpha", alpha, 0, inf)
        self.affinity: Affinity = affinity
        self.feature_maps: FeatureMaps = feature_maps
        self.eigensolver: Eigensolver = eigensolver

    @abstractmethod
    def cut(self, weights: Tensor) -> Tensor:
        """Cut one graph.

        Args:
            weights: ``(N, N)`` float64, symmetric, at least 0.

        Returns:
            ``(N,)`` int64, the part of each location; any ids.
        """

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: Sequence[int] | None = None,  # noqa: ARG002
    ) -> list[Proposals]:
        """Cut each image's graph.

        Args:
            aggregated: One distribution per location, for a batch of B images.
            num_segments: Not looked at.

        Returns:
            B proposals, the parts.

        Raises:
            UsageError: If features are to be compared and the source gives none.
        """
        if self.affinity == "attention":
            grid = aggregated.grid
            graphs = (
                attention_affinity(aggregated.select(slice(n, n + 1)).rows(slice(None))[0])
                for n in range(aggregated.batch_size)
            )
        else:
            features = joined_features(aggregated, type(self).__name__, self.feature_maps)
            grid = (features.shape[2], features.shape[3])
            graphs = (cosine_affinity(own.flatten(1).mT, self.alpha) for own in features)
        return [
            Proposals.of_parts(by_first_location(self.cut(graph)).reshape(grid)) for graph in graphs
        ]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"alpha={self.alpha}, affinity={self.affinity!r}, "
            f"feature_maps={self.feature_maps!r}, eigensolver={self.eigensolver!r}"
        )


def by_first_location(parts: Tensor) -> Tensor:
    """The same partition, its ids 0, 1, ... in the order in which they first occur.

    Args:
        parts: ``(N,)`` int64.

    Example:
        >>> import torch
        >>> by_first_location(torch.tensor([7, 7, 2, 7, 5]))
        tensor([0, 0, 1, 0, 2])
    """
    ids, inverse = torch.unique(parts, return_inverse=True)
    positions = parts.new_full((len(ids),), len(parts))
    positions.scatter_reduce_(0, inverse, inverse.new_tensor(range(len(parts))), "amin")
    return positions.argsort().argsort()[inverse]
