"""TokenRank: how much attention a location gets in the long run."""

from torch import Tensor


def token_rank(
    transitions: Tensor, teleport: float = 0.01, *, tolerance: float = 1e-9, most: int = 10000
) -> Tensor:
    r"""The stationary distribution of attention as a Markov chain.

    .. math:: \pi = (1 - t)\, \pi P + t / N

    "TokenRank" in Erel et al., "Attention (as Discrete-Time Markov) Chains", 2025: PageRank with
    attention for links. The teleport ``t`` makes the distribution unique where attention falls
    into parts. Found by power iteration in float64.

    Args:
        transitions: P, ``(N, N)``, a distribution in each row.
        teleport: t, above 0 and at most 1.
        tolerance: The iteration ends when no entry changes by more than this part of 1/N.
        most: How many iterations are made at the most; with a teleport t the error shrinks by
            ``1 - t`` in each.

    Returns:
        ``(N,)`` float64; it sums to 1.

    Raises:
        ValueError: If ``teleport`` is out of its range.

    Example:
        >>> import torch
        >>> all_to_the_first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> token_rank(all_to_the_first, teleport=0.2)
        tensor([0.9000, 0.1000], dtype=torch.float64)
    """
    if not 0 < teleport <= 1:
        raise ValueError(f"Expected argument `teleport` above 0, up to 1, but got {teleport}.")
    wide = transitions.double()
    number = len(wide)
    rank = wide.new_full((number,), 1 / number)
    for _ in range(most):
        following = (1 - teleport) * (rank @ wide) + teleport / number
        following = following / following.sum()
        change = float((following - rank).abs().max()) * number
        rank = following
        if change <= tolerance:
            break
    return rank
