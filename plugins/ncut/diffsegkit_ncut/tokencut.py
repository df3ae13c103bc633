"""TokenCut: one cut, into an object and its surroundings."""

import torch
from scipy import ndimage  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit import AggregatedAttention, Merger, Proposals
from diffsegkit_ncut.affinity import FeatureMaps, check_between, check_choice, joined_features
from diffsegkit_ncut.eigen import Eigensolver, cut_vectors
from diffsegkit_ncut.graph import by_first_location


class TokenCutMerger(Merger):
    """The object that stands out, and the rest (Wang et al., TokenCut, CVPR 2022, section 3.2).

    Locations whose features have a cosine above ``tau`` are linked with weight 1, all others with
    ``epsilon``. The graph's second eigenvector is split at its mean; the side that has the entry
    of the largest magnitude is the object, of which the connected part around that entry is kept
    (``ncut`` in TokenCut's ``object_discovery.py``).

    Args:
        tau: The cosine above which locations are linked; 0.2 in TokenCut, with keys of DINO.
        epsilon: The weight of the other links; 1e-5 in TokenCut.
        component: Whether only the connected part around the strongest entry is kept, as in
            TokenCut, or the whole side.
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.
        eigensolver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If the source gives no features (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, SourceOutput
        >>> features = torch.zeros(1, 2, 3, 4)
        >>> features[0, 0], features[0, 0, 1, 1:3], features[0, 1, 1, 1:3] = 1, 0, 1
        >>> output = SourceOutput([], features=[features])
        >>> aggregated = AggregatedAttention(torch.eye(12)[None], (3, 4), output)
        >>> [proposals] = TokenCutMerger()(aggregated)
        >>> proposals.scores[1]
        tensor([[0., 0., 0., 0.],
                [0., 1., 1., 0.],
                [0., 0., 0., 0.]])
    """

    def __init__(
        self,
        tau: float = 0.2,
        epsilon: float = 1e-5,
        component: bool = True,
        feature_maps: FeatureMaps = "last",
        eigensolver: Eigensolver = "auto",
    ) -> None:
        super().__init__()
        check_choice("feature_maps", feature_maps, FeatureMaps)
        check_choice("eigensolver", eigensolver, Eigensolver)
        self.tau = check_between("tau", tau, -1, 1)
        self.epsilon = check_between("epsilon", epsilon, 1e-12, 1)
        self.component = component
        self.feature_maps: FeatureMaps = feature_maps
        self.eigensolver: Eigensolver = eigensolver

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: object = None,  # noqa: ARG002
    ) -> list[Proposals]:
        """Find the object of each image.

        Args:
            aggregated: Its source has features, for a batch of B images.
            num_segments: Not looked at.

        Returns:
            B proposals: object and rest, in the order of their first locations; one alone where
            nothing stands out.
        """
        features = joined_features(aggregated, type(self).__name__, self.feature_maps)
        return [self._split(own) for own in features]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"tau={self.tau}, epsilon={self.epsilon}, component={self.component}, "
            f"feature_maps={self.feature_maps!r}, eigensolver={self.eigensolver!r}"
        )

    def _split(self, features: Tensor) -> Proposals:
        grid = features.shape[1:]
        weights = linked_above(features.flatten(1).mT, self.tau, self.epsilon)
        vector = separating_vector(weights, self.eigensolver)
        if vector is None:
            return Proposals.of_parts(torch.zeros(grid, dtype=torch.int64, device=features.device))
        side = (vector > vector.mean()).reshape(grid)
        if self.component:
            side = component_around(side, int(vector.argmax()))
        return Proposals.of_parts(by_first_location(side.flatten().long()).reshape(grid))


def linked_above(features: Tensor, tau: float, epsilon: float) -> Tensor:
    """TokenCut's graph: weight 1 where the cosine is above ``tau``, ``epsilon`` elsewhere.

    Args:
        features: ``(N, C)`` unit vectors, or 0.
        tau: The cosine.
        epsilon: The weight of all other pairs.

    Returns:
        ``(N, N)`` float64, symmetric.
    """
    wide = features.double()
    cosines = wide @ wide.mT
    linked = (cosines + cosines.mT) / 2 > tau
    return linked.double().clamp_min(epsilon)


def separating_vector(weights: Tensor, solver: Eigensolver) -> Tensor | None:
    """The second eigenvector; its entry of the largest magnitude is positive.

    Args:
        weights: ``(N, N)``.
        solver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Returns:
        ``(N,)`` float64, or None if all links are alike, so that no vector separates anything.
    """
    off_diagonal = weights[~torch.eye(len(weights), dtype=torch.bool, device=weights.device)]
    if len(weights) < 2 or bool((off_diagonal == off_diagonal[0]).all()):
        return None
    return cut_vectors(weights, 2, solver)[1][:, 1]


def component_around(side: Tensor, location: int) -> Tensor:
    """The part of a mask that is connected with a location, along the axes.

    Args:
        side: ``(h, w)`` bool, true at the location.
        location: Counted row by row.

    Returns:
        ``(h, w)`` bool.
    """
    regions, _ = ndimage.label(side.cpu().numpy())
    found = torch.from_numpy(regions).to(side.device)
    return found == found.flatten()[location]
