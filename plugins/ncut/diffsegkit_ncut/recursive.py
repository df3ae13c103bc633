"""DiffCut: a graph is cut in two, and each half again, while the cut is cheap."""

import torch
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit_ncut.affinity import Affinity, FeatureMaps, check_between
from diffsegkit_ncut.eigen import Eigensolver, cut_vectors
from diffsegkit_ncut.graph import GraphCutMerger


class RecursiveNcutMerger(GraphCutMerger):
    """Recursive normalised cuts, as in DiffCut (Couairon et al., NeurIPS 2024, section 3.2).

    The second eigenvector of the graph is thresholded at ``splits`` values between its smallest
    and largest entry; the threshold with the smallest normalised cut is taken, and if that is below
    ``tau``, each side is cut again (``recursive_ncut`` in DiffCut's
    ``recursive_normalized_cut.py``). The normalised cut, from 0 to 2, is what crosses the cut as a
    share of all that each side is linked with. A side that has no link to the rest is cut off
    without asking the eigenvector, which is not unique then.

    Args:
        tau: Cut while the normalised cut is below it; 0.5 in DiffCut. A value suits one source:
            features of other models, or another ``alpha``, want another.
        alpha: The power of the cosines; 10 in DiffCut.
        splits: How many thresholds are tried; 100 in DiffCut.
        min_share: A split that leaves less than this share of all locations on a side is not
            considered; 0 in DiffCut, where single patches may become segments.
        affinity: ``"features"``, as DiffCut does, or ``"attention"``.
        feature_maps: ``"last"``, as DiffCut does, or the mean over ``"all"``.
        eigensolver: See :func:`~diffsegkit_ncut.cut_vectors`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention
        >>> blocks = torch.block_diag(*[torch.full((4, 4), 1 / 4)] * 3)
        >>> aggregated = AggregatedAttention(blocks[None], grid=(3, 4))
        >>> [proposals] = RecursiveNcutMerger(affinity="attention")(aggregated)
        >>> len(proposals)
        3
    """

    def __init__(
        self,
        tau: float = 0.5,
        alpha: float = 10.0,
        splits: int = 100,
        min_share: float = 0.0,
        affinity: Affinity = "features",
        feature_maps: FeatureMaps = "last",
        eigensolver: Eigensolver = "auto",
    ) -> None:
        super().__init__(alpha, affinity, feature_maps, eigensolver)
        if splits < 1:
            raise ValueError(f"Expected argument `splits` to be at least 1, but got {splits}.")
        self.tau = check_between("tau", tau, 0, 2)
        self.splits = splits
        self.min_share = check_between("min_share", min_share, 0, 0.5)

    def cut(self, weights: Tensor) -> Tensor:
        """Cut one graph until no cut is cheap.

        Args:
            weights: ``(N, N)`` float64, symmetric, at least 0.

        Returns:
            ``(N,)`` int64, the part of each location.
        """
        number = len(weights)
        least = max(1.0, self.min_share * number)
        parts = torch.zeros(number, dtype=torch.int64, device=weights.device)
        pending, used = [torch.arange(number, device=weights.device)], 0
        # By a list, not by recursion: a chain of cuts may be as long as there are locations.
        while pending:
            members = pending.pop()
            side = self._bipartition(weights[members][:, members], least)
            if side is not None:
                used += 1
                parts[members[side]] = used
                pending += [members[~side], members[side]]
        return parts

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        own = f"tau={self.tau}, splits={self.splits}, min_share={self.min_share}"
        return f"{own}, {super().extra_repr()}"

    def _bipartition(self, weights: Tensor, least: float) -> Tensor | None:
        """``(n,)`` bool, one side of the cheapest cut; None if there is no cheap one.

        Args:
            weights: ``(n, n)``, of the locations in question.
            least: How many locations a side must have.
        """
        if len(weights) < 2 * least or len(weights) < 2:
            return None
        apart = _unlinked(weights)
        if apart is not None:
            return apart if min(int(apart.sum()), int((~apart).sum())) >= least else None
        vector = cut_vectors(weights, 2, self.eigensolver)[1][:, 1]
        # DiffCut's thresholds: from 99 % of the smallest to 99 % of the largest entry.
        low, high = (0.99 * float(end) for end in torch.aminmax(vector))
        thresholds = torch.linspace(low, high, self.splits, dtype=torch.float64)
        sides = vector > thresholds.to(vector.device)[:, None]
        costs = normalised_cut(weights, sides)
        sizes = sides.sum(1)
        allowed = (sizes >= least) & (len(weights) - sizes >= least)
        costs = torch.where(allowed, costs, torch.full_like(costs, 2.0))
        best = int(costs.argmin())
        return sides[best] if bool(allowed[best]) and float(costs[best]) < self.tau else None


def normalised_cut(weights: Tensor, sides: Tensor) -> Tensor:
    """The normalised cut of bipartitions (Shi and Malik, PAMI 2000, equation 2).

    Args:
        weights: ``(n, n)``, symmetric, at least 0.
        sides: ``(M, n)`` bool, one bipartition per row.

    Returns:
        ``(M,)`` float64, from 0 to 2; 2 where a side is empty.

    Example:
        >>> import torch
        >>> pairs = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))
        >>> normalised_cut(pairs, torch.tensor([[True, True, False, False], [True] + [False] * 3]))
        tensor([0.0000, 0.6667], dtype=torch.float64)
    """
    wide, inside = weights.double(), sides.double()
    degree = wide.sum(1)
    of_side = inside @ degree
    of_rest = degree.sum() - of_side
    crossing = (of_side - (inside @ wide * inside).sum(1)).clamp_min(0)
    cost = crossing / of_side + crossing / of_rest
    empty = ~sides.any(1) | sides.all(1) | (of_side <= 0) | (of_rest <= 0)
    return torch.where(empty, torch.full_like(cost, 2.0), cost)


def _unlinked(weights: Tensor) -> Tensor | None:
    """The first location's connected part, if it is not all; ``(n,)`` bool."""
    if bool((weights > 0).all()):
        return None
    number, of = connected_components(weights.cpu().numpy() > 0, directed=False)
    return None if number == 1 else torch.from_numpy(of == of[0]).to(weights.device)
