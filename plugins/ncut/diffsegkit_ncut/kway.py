"""A cut into K parts at once, K being read off the eigenvalues."""

import torch
from torch import Tensor

from diffsegkit_ncut.affinity import Affinity, FeatureMaps, check_between
from diffsegkit_ncut.eigen import Eigensolver, cut_vectors
from diffsegkit_ncut.graph import GraphCutMerger

_ROUNDS = 100


class KWayNcutMerger(GraphCutMerger):
    """A direct K-way normalised cut; K is the number of small eigenvalues.

    As in Falcon (Zhang et al., arXiv 2504.05613, 2025) the graph is cut into K parts at once, not
    in two again and again, with K from the spectrum, and then the discrete K-way cut itself is
    made smaller: all locations move to the part with the largest gradient of the objective. This
    is not Falcon to the letter: it begins with the K eigenvectors, rotated to the nearest
    indicators (Yu and Shi, ICCV 2003), the moves are those of weighted kernel K-means, which are
    taken only if they lower the cut (Dhillon et al., KDD 2004), and there is neither Falcon's
    regularisation of the affinity nor its refinement by depth.

    Args:
        max_value: How small an eigenvalue of the normalised Laplacian must be to count as a part,
            from 0 to 2. A part that is linked to the rest by a share ``s`` of its links makes an
            eigenvalue of about ``s``. Ours, untuned by any paper.
        max_segments: The largest K.
        alpha: The power of the cosines.
        affinity: ``"features"`` or ``"attention"``.
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.
        eigensolver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> blocks = torch.block_diag(*[torch.full((4, 4), 1 / 4)] * 3)
        >>> aggregated = AggregatedAttention(blocks[None], grid=(3, 4))
        >>> [proposals] = KWayNcutMerger(affinity="attention")(aggregated)
        >>> len(proposals)
        3
    """

    def __init__(
        self,
        max_value: float = 0.3,
        max_segments: int = 30,
        alpha: float = 10.0,
        affinity: Affinity = "features",
        feature_maps: FeatureMaps = "last",
        eigensolver: Eigensolver = "auto",
    ) -> None:
        super().__init__(alpha, affinity, feature_maps, eigensolver)
        if max_segments < 1:
            raise ValueError(
                f"Expected argument `max_segments` to be at least 1, but got {max_segments}."
            )
        self.max_value = check_between("max_value", max_value, 0, 2)
        self.max_segments = max_segments

    def cut(self, weights: Tensor) -> Tensor:
        """Cut one graph into K parts.

        Args:
            weights: ``(N, N)`` float64, symmetric, at least 0.

        Returns:
            ``(N,)`` int64, the part of each location; at most K of them.
        """
        # A location without any link makes a part of its own, by a link to itself.
        alone = weights.sum(1) <= 0
        weights = weights + torch.diag(alone.to(weights.dtype))
        values, vectors = cut_vectors(
            weights, min(self.max_segments, len(weights)), self.eigensolver
        )
        # The first eigenvalue is 0, up to rounding.
        number = max(1, int((values <= max(self.max_value, 1e-9)).sum()))
        if number == 1:
            return torch.zeros(len(weights), dtype=torch.int64, device=weights.device)
        return settled(weights, nearest_indicators(vectors[:, :number]))

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        own = f"max_value={self.max_value}, max_segments={self.max_segments}"
        return f"{own}, {super().extra_repr()}"


def nearest_indicators(vectors: Tensor) -> Tensor:
    """Parts from eigenvectors: the rotation that brings them closest to indicators.

    Yu and Shi, "Multiclass spectral clustering", ICCV 2003, with a fixed beginning: the first row
    is the longest before normalisation, each next one that which is most orthogonal to those
    before.

    Args:
        vectors: ``(N, K)``, K at least 2.

    Returns:
        ``(N,)`` int64 in 0..K-1; not every number need occur.
    """
    lengths = vectors.norm(dim=1, keepdim=True)
    rows = vectors / lengths.clamp_min(1e-300)
    number = vectors.shape[1]
    chosen = [int(lengths[:, 0].argmax())]
    overlap = torch.zeros(len(rows), dtype=rows.dtype, device=rows.device)
    for _ in range(number - 1):
        overlap = overlap + (rows @ rows[chosen[-1]]).abs()
        chosen.append(int(overlap.argmin()))
    rotation = rows[chosen].mT
    labels: Tensor = (rows @ rotation).argmax(1)
    for _ in range(_ROUNDS):
        indicators = torch.nn.functional.one_hot(labels, number).to(rows.dtype)
        left, _, right = torch.linalg.svd(indicators.mT @ rows)
        moved = (rows @ (left @ right).mT).argmax(1)
        if torch.equal(moved, labels):
            break
        labels = moved
    return labels


def settled(weights: Tensor, labels: Tensor) -> Tensor:
    """Move locations between parts while that makes the K-way normalised cut smaller.

    Weighted kernel K-means with the degrees as weights (Dhillon et al., KDD 2004): location ``i``
    goes to the part ``k`` with the largest ``2 link(i, k) / (d_i d_k) - link(k, k) / d_k^2``. A
    round that does not lower the cut is not taken, so the cut never rises.

    Args:
        weights: ``(N, N)`` float64, symmetric, at least 0.
        labels: ``(N,)`` int64.

    Returns:
        ``(N,)`` int64; parts may vanish.
    """
    degree = weights.sum(1)
    cost = kway_cut(weights, labels)
    for _ in range(_ROUNDS):
        _, labels = torch.unique(labels, return_inverse=True)
        inside = torch.nn.functional.one_hot(labels).to(weights.dtype)
        links = weights @ inside
        of_part = (degree[:, None] * inside).sum(0)
        within = (links * inside).sum(0)
        gain = 2 * links / (degree[:, None] * of_part) - within / of_part.square()
        moved = gain.argmax(1)
        moved_cost = kway_cut(weights, moved)
        # One part less is cheaper by a whole link, whatever it is: K is not to be changed here.
        if len(torch.unique(moved)) < inside.shape[1] or not moved_cost < cost - 1e-12:
            break
        labels, cost = moved, moved_cost
    return labels


def kway_cut(weights: Tensor, labels: Tensor) -> float:
    """The K-way normalised cut: of each part the share of its links that leave it, summed.

    Args:
        weights: ``(N, N)``, symmetric, at least 0.
        labels: ``(N,)`` int64.

    Example:
        >>> import torch
        >>> kway_cut(torch.ones(4, 4), torch.tensor([0, 0, 1, 1]))
        1.0
    """
    _, compact = torch.unique(labels, return_inverse=True)
    inside = torch.nn.functional.one_hot(compact).double()
    wide = weights.double()
    of_part = inside.mT @ wide.sum(1)
    within = (wide @ inside * inside).sum(0)
    return float(((of_part - within) / of_part).sum())
