"""What a merger produces: a few distributions over the grid, and how they came about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffsegkit.interfaces.checks import (
    Grid,
    check_distributions,
    check_grid,
    validation_enabled,
)


@dataclass(frozen=True, eq=False)
class MergingRound:
    """One round of merging: which candidates went into each proposal that came out of it.

    In round 0 the candidates are the N maps of the grid; in a later round they are the proposals
    of the round before. A proposal is the mean of its members, so
    ``members[k].float() @ candidates / members[k].sum()`` gives proposal ``k`` again.

    Args:
        members: ``(count, candidates)`` bool; row ``k`` marks what was averaged into proposal k.
        seeds: ``(count,)`` int64; the candidate from which proposal ``k`` was grown. In round 0
            that is an anchor's location.
        threshold: The distance below which a candidate became a member, in nats.
    """

    members: Tensor
    seeds: Tensor
    threshold: float

    @property
    def count(self) -> int:
        """How many proposals the round ended with."""
        return len(self.members)


@dataclass(frozen=True, eq=False)
class Proposals:
    """The merged maps of one image.

    Args:
        maps: ``(K, h, w)``, floating point; each is a distribution over the grid.
        rounds: One record per merging round, empty for mergers that have no rounds.
        scores: ``(K, h, w)``, finite, what assigners compare in place of the maps; None for the
            maps themselves. For mergers that cut a grid into parts: as a distribution a small part
            is higher than a large one, and would take its border. See :meth:`of_parts`.

    Raises:
        ValueError: If there is no map, one of them is no distribution, or the scores are of
            another shape or not finite. See :func:`diffsegkit.validation` to switch this off.

    Example:
        >>> import torch
        >>> proposals = Proposals(torch.full((2, 3, 4), 1 / 12))
        >>> len(proposals), proposals.grid
        (2, (3, 4))
    """

    maps: Tensor
    rounds: Sequence[MergingRound] = ()
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        if not validation_enabled():
            return
        if self.maps.ndim != 3 or len(self.maps) == 0:
            raise ValueError(
                f"Expected proposals to be of shape (K, h, w) with K at least 1, but got "
                f"{tuple(self.maps.shape)}."
            )
        check_grid(tuple(self.maps.shape[1:]), "the proposals")
        check_distributions(self.maps.flatten(1), "the proposals")
        if self.scores is None:
            return
        if self.scores.shape != self.maps.shape or not self.scores.is_floating_point():
            raise ValueError(
                f"Expected the scores of proposals to be floating point, of the maps' shape "
                f"{tuple(self.maps.shape)}, but got {self.scores.dtype} of shape "
                f"{tuple(self.scores.shape)}."
            )
        if not bool(torch.isfinite(self.scores.sum())):
            raise ValueError(
                "Expected the scores of proposals to be finite, but got NaN or infinity."
            )

    @classmethod
    def of_parts(cls, parts: Tensor) -> "Proposals":
        """The parts of a partition of the grid, each pixel going to the part it lies in.

        The map of a part is spread evenly over its cells; its score is 1 on them and 0 elsewhere,
        so that :class:`~diffsegkit.assigners.ArgmaxAssigner` gives the partition back.

        Args:
            parts: ``(h, w)`` int64; ids in any order, gaps allowed.

        Returns:
            One proposal per part, in the order of the ids.

        Example:
            >>> import torch
            >>> proposals = Proposals.of_parts(torch.tensor([[0, 0, 0, 7]]))
            >>> len(proposals), proposals.maps[1].tolist()
            (2, [[0.0, 0.0, 0.0, 1.0]])
        """
        ids = torch.unique(parts)
        scores = (parts == ids[:, None, None]).float()
        return cls(scores / scores.sum((1, 2), keepdim=True), scores=scores)

    @property
    def compared(self) -> Tensor:
        """``(K, h, w)``: what assigners compare, the scores if there are any, else the maps."""
        return self.maps if self.scores is None else self.scores

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def grid(self) -> Grid:
        """``(h, w)`` in cells."""
        return self.maps.shape[1], self.maps.shape[2]

    def keep(self, index: Tensor) -> "Proposals":
        """Only some of the maps; ``rounds`` stays the history of all of them.

        Args:
            index: ``(K',)`` int64, which maps and in which order.
        """
        scores = None if self.scores is None else self.scores[index]
        return replace(self, maps=self.maps[index], scores=scores)
