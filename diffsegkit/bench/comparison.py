"""How far one result is from another. Each is 0 for equal ones, and infinite for NaN."""

from math import inf

import torch
from torch import Tensor


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Of two numbers at the same place.

    Args:
        ours: Of any shape.
        theirs: Of the same shape; otherwise they are infinitely far apart.

    Example:
        >>> largest_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
        0.5
    """
    if ours.shape != theirs.shape:
        return inf
    return _finite((ours - theirs).abs().max())


def largest_change_of_a_map(ours: Tensor, theirs: Tensor) -> float:
    """The share of a map that lies elsewhere in the other, of the map where it is largest.

    Args:
        ours: ``(..., N)``; each row is a map.
        theirs: Of the same shape; otherwise they are infinitely far apart.

    Example:
        >>> largest_change_of_a_map(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.75, 0.25]]))
        0.5
    """
    if ours.shape != theirs.shape:
        return inf
    changes = [
        (own - other).abs().sum(-1) / own.sum(-1)
        # Row by row of the leading axis, because maps may fill half the memory.
        for own, other in zip(ours.float(), theirs.float(), strict=True)
    ]
    return _finite(torch.stack(changes).max())


def share_of_pixels(ours: Tensor, theirs: Tensor) -> float:
    """How many pixels have another label.

    Args:
        ours: Label maps.
        theirs: Of the same shape; otherwise they are infinitely far apart.

    Example:
        >>> share_of_pixels(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]))
        0.25
    """
    if ours.shape != theirs.shape:
        return inf
    return _finite((ours != theirs).float().mean())


def _finite(value: Tensor) -> float:
    number = value.item()
    return number if number < inf else inf  # NaN is no difference that one could allow
