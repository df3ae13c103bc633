"""What a merger produces: a few distributions over the grid, and how they came about."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    Raises:
        ValueError: If there is no map or one of them is no distribution. See
            :func:`diffsegkit.validation` to switch this off.

    Example:
        >>> import torch
        >>> proposals = Proposals(torch.full((2, 3, 4), 1 / 12))
        >>> len(proposals), proposals.grid
        (2, (3, 4))
    """

    maps: Tensor
    rounds: Sequence[MergingRound] = ()

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
        return replace(self, maps=self.maps[index])
