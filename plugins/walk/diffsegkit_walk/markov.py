"""Attention of several steps: where a walk along attention leads."""

from dataclasses import replace

import torch
from torch import Tensor

from diffsegkit import AggregatedAttention, Aggregator, SourceOutput, validation
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.errors import UsageError

# An N x N matrix of float32 has 256 MiB then, and three of them are needed.
_MOST_LOCATIONS = 8192


class MarkovAggregator(Aggregator):
    """Replaces attention by where several steps along it lead.

    A row of attention is a distribution over locations, so attention is the transition matrix P of
    a Markov chain, and row ``q`` of its power ``P^k`` says where a walk of ``k`` steps from ``q``
    ends ("multi-bounce" attention in Erel et al., "Attention (as Discrete-Time Markov) Chains",
    2025). Within an object the rows become more alike with every step, and slowly what a walk
    seldom leaves stays apart. With ``restart`` the walk goes back to where it began with that
    probability before each step (random walk with restart; Tong et al., ICDM 2006).

    Args:
        steps: k, how many steps; None for a walk without end, which needs ``restart``.
        restart: The probability of going back, from 0 to 1.
        aggregator: What brings attention to one grid first; ``ResolutionAggregator`` by default.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If the grid has more than 8192 locations (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AttentionMap, SourceOutput
        >>> ring = torch.eye(4).roll(1, dims=1)  # each location attends to the next
        >>> output = SourceOutput([AttentionMap(ring[None], grid=(2, 2))])
        >>> MarkovAggregator(steps=3)(output).probs[0, 0]
        tensor([0., 0., 0., 1.])
    """

    def __init__(
        self,
        steps: int | None = 2,
        restart: float = 0.0,
        aggregator: Aggregator | None = None,
    ) -> None:
        super().__init__()
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(
                f"Expected argument `steps` to be a whole number, at least 1, or None, but got "
                f"{steps!r}."
            )
        if not 0 <= restart < 1:
            raise ValueError(
                f"Expected argument `restart` from 0 up to, but not, 1, but got {restart}."
            )
        if steps is None and restart == 0:
            raise ValueError(
                "Expected argument `restart` above 0 for a walk without end (steps=None): without "
                "it all walks end alike."
            )
        self.steps = steps
        self.restart = float(restart)
        self.aggregator = ResolutionAggregator() if aggregator is None else aggregator

    @torch.no_grad()
    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """Aggregate, then walk.

        Args:
            output: What the source gave for a batch of images.

        Returns:
            ``(B, N, N)`` float32 on the aggregator's grid; ``output`` is its ``source``.
        """
        aggregated: AggregatedAttention = self.aggregator(output)
        number = aggregated.num_locations
        if number > _MOST_LOCATIONS:
            height, width = aggregated.grid
            raise UsageError(
                f"MarkovAggregator keeps all {number} x {number} entries of a {height}x{width} "
                f"grid in memory and takes {_MOST_LOCATIONS} locations at the most; use a smaller "
                "--image-size, or another aggregator."
            )
        if self.steps == 1 and self.restart == 0:
            return aggregated
        # Image by image, so that the intermediate powers of one alone are in memory.
        probs = torch.stack(
            [
                walk(
                    aggregated.select(slice(n, n + 1)).rows(slice(None))[0],
                    self.steps,
                    self.restart,
                )
                for n in range(aggregated.batch_size)
            ]
        )
        with validation(False):  # products of distributions, divided by their sums
            plain = AggregatedAttention(probs, aggregated.grid, output)
        return plain if aggregated.source is None else replace(plain, source=aggregated.source)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"steps={self.steps}, restart={self.restart}"


def walk(transitions: Tensor, steps: int | None, restart: float = 0.0) -> Tensor:
    r"""Where walks end that begin at each location.

    .. math:: A_0 = I, \qquad A_{k+1} = r I + (1 - r) A_k P

    Args:
        transitions: P, ``(N, N)``, a distribution in each row.
        steps: How many; None for the limit, ``r (I - (1 - r) P)^-1``.
        restart: r.

    Returns:
        ``(N, N)``, a distribution in each row, in the dtype of the transitions.

    Example:
        >>> import torch
        >>> coin = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> walk(coin, 2)
        tensor([[1., 0.],
                [0., 1.]])
        >>> walk(coin, None, restart=0.5)
        tensor([[0.6667, 0.3333],
                [0.3333, 0.6667]])
    """
    if steps is None:
        identity = torch.eye(len(transitions), dtype=transitions.dtype, device=transitions.device)
        result = torch.linalg.solve(identity - (1 - restart) * transitions, restart * identity)
    elif restart == 0:
        result = torch.linalg.matrix_power(transitions, steps).clone()
    else:
        result = torch.eye(len(transitions), dtype=transitions.dtype, device=transitions.device)
        for _ in range(steps):
            result = (1 - restart) * (result @ transitions)
            result.diagonal().add_(restart)
    positive: Tensor = result.clamp_min_(0)  # what solving leaves below
    return positive.div_(positive.sum(1, keepdim=True))
