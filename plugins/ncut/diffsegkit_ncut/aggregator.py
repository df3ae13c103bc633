"""Features as attention, so that mergers of attention run on sources without any."""

from math import inf

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention, Aggregator, SourceOutput
from diffsegkit_ncut.affinity import (
    FeatureMaps,
    check_between,
    check_choice,
    cosine_affinity,
    joined_features,
)


class FeatureAffinityAggregator(Aggregator):
    """Each location's affinities to all others, divided by their sum.

    For sources that give features alone, as DiffCut's does, and for DiffSeg's own merging on
    affinities of features. Whatever attention the source gives is not looked at.

    Args:
        alpha: The power of the cosines, see :func:`~diffsegkit_ncut.cosine_affinity`.
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If the source gives no features (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import SourceOutput
        >>> output = SourceOutput([], features=[torch.rand(1, 8, 2, 3)])
        >>> FeatureAffinityAggregator()(output).grid
        (2, 3)
    """

    def __init__(self, alpha: float = 10.0, feature_maps: FeatureMaps = "last") -> None:
        super().__init__()
        check_choice("feature_maps", feature_maps, FeatureMaps)
        self.alpha = check_between("alpha", alpha, 0, inf)
        self.feature_maps: FeatureMaps = feature_maps

    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """Aggregate.

        Args:
            output: Has features.

        Returns:
            ``(B, N, N)`` float32 on the grid of the features.
        """
        features = joined_features(output, type(self).__name__, self.feature_maps)
        grid = (features.shape[2], features.shape[3])
        probs = torch.stack([self._rows(own) for own in features])
        return AggregatedAttention(probs, grid, output)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"alpha={self.alpha}, feature_maps={self.feature_maps!r}"

    def _rows(self, features: Tensor) -> Tensor:
        affinity = cosine_affinity(features.flatten(1).mT, self.alpha)
        return (affinity / affinity.sum(1, keepdim=True)).float()
