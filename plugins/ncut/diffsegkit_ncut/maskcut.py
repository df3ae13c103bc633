"""MaskCut: one object after another, each masked out before the next is looked for."""

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention, Merger, Proposals
from diffsegkit_ncut.affinity import FeatureMaps, check_between, check_choice, joined_features
from diffsegkit_ncut.eigen import Eigensolver
from diffsegkit_ncut.graph import by_first_location
from diffsegkit_ncut.tokencut import component_around, linked_above, separating_vector


class MaskCutMerger(Merger):
    """Up to ``objects`` objects, and the rest (Wang et al., CutLER, CVPR 2023, section 3.2).

    TokenCut again and again: the features of an object that was found become 0, and the next is
    looked for (``maskcut_forward`` in CutLER's ``maskcut.py``). A side that has three or four of
    the image's corners is background, and the other side is the object. An object that overlaps
    the one before it by more than half, or is too small, is dropped.

    The original's choice of the side depends on the eigenvector's sign where the strongest entry
    lies on a side with three corners or more; here the sign is fixed beforehand, the strongest
    entry being positive.

    Args:
        objects: How many are looked for; 3 in CutLER.
        tau: The cosine above which locations are linked; 0.15 in CutLER, with keys of DINO.
        epsilon: The weight of the other links; 1e-5 in CutLER.
        min_share: Objects after the first that have no more than this share of the locations are
            dropped; 0.01 in CutLER.
        max_overlap: And those whose intersection over union with the one before is above this;
            0.5 in CutLER.
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.
        eigensolver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If the source gives no features (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, SourceOutput
        >>> kinds = torch.zeros(5, 8, dtype=torch.int64)
        >>> kinds[1:4, 1:3], kinds[2:4, 5:7] = 1, 2
        >>> features = torch.nn.functional.one_hot(kinds).permute(2, 0, 1)[None].float()
        >>> output = SourceOutput([], features=[features])
        >>> aggregated = AggregatedAttention(torch.eye(40)[None], (5, 8), output)
        >>> [proposals] = MaskCutMerger()(aggregated)
        >>> torch.equal(proposals.scores.argmax(0), kinds)
        True
    """

    def __init__(
        self,
        objects: int = 3,
        tau: float = 0.15,
        epsilon: float = 1e-5,
        min_share: float = 0.01,
        max_overlap: float = 0.5,
        feature_maps: FeatureMaps = "last",
        eigensolver: Eigensolver = "auto",
    ) -> None:
        super().__init__()
        if objects < 1:
            raise ValueError(f"Expected argument `objects` to be at least 1, but got {objects}.")
        check_choice("feature_maps", feature_maps, FeatureMaps)
        check_choice("eigensolver", eigensolver, Eigensolver)
        self.objects = objects
        self.tau = check_between("tau", tau, -1, 1)
        self.epsilon = check_between("epsilon", epsilon, 1e-12, 1)
        self.min_share = check_between("min_share", min_share, 0, 1)
        self.max_overlap = check_between("max_overlap", max_overlap, 0, 1)
        self.feature_maps: FeatureMaps = feature_maps
        self.eigensolver: Eigensolver = eigensolver

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: object = None,  # noqa: ARG002
    ) -> list[Proposals]:
        """Find the objects of each image.

        Args:
            aggregated: Its source has features, for a batch of B images.
            num_segments: Not looked at.

        Returns:
            B proposals: objects and rest, in the order of their first locations.
        """
        features = joined_features(aggregated, type(self).__name__, self.feature_maps)
        return [Proposals.of_parts(self._find(own)) for own in features]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"objects={self.objects}, tau={self.tau}, epsilon={self.epsilon}, "
            f"min_share={self.min_share}, max_overlap={self.max_overlap}, "
            f"feature_maps={self.feature_maps!r}, eigensolver={self.eigensolver!r}"
        )

    def _find(self, features: Tensor) -> Tensor:
        """``(h, w)`` int64: which object each location belongs to, or to none."""
        grid = features.shape[1:]
        parts = torch.zeros(grid, dtype=torch.int64, device=features.device)
        hidden = torch.zeros(grid, dtype=torch.bool, device=features.device)
        before = torch.zeros_like(hidden)
        for number in range(1, self.objects + 1):
            visible = torch.where(hidden, torch.zeros_like(features), features)
            found = self._next(visible)
            if found is None:
                break
            if number > 1:
                union = (found | before).sum().clamp_min(1)
                overlaps = float((found & before).sum() / union) > self.max_overlap
                if overlaps or float(found.float().mean()) <= self.min_share:
                    found = torch.zeros_like(found)
            parts = torch.where(found & (parts == 0), parts.new_tensor(number), parts)
            hidden, before = hidden | found, found
        return by_first_location(parts.flatten()).reshape(grid)

    def _next(self, features: Tensor) -> Tensor | None:
        """``(h, w)`` bool, the object that stands out most; None if nothing does."""
        grid = features.shape[1:]
        weights = linked_above(features.flatten(1).mT, self.tau, self.epsilon)
        vector = separating_vector(weights, self.eigensolver)
        if vector is None:
            return None
        side = (vector > vector.mean()).reshape(grid)
        corners = side[[0, 0, -1, -1], [0, -1, 0, -1]]
        if int(corners.sum()) >= 3:
            vector, side = -vector, ~side
        return component_around(side, int(vector.argmax()))
