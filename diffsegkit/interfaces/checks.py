"""Checks on what travels between the parts, and the switch that turns them off."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

import torch
from torch import Tensor

Grid = tuple[int, int]
"""Height and width of a grid, in cells."""

# How far the sum of a distribution may be from 1. Half precision keeps about three digits.
_TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
_DEFAULT_TOLERANCE = 1e-3

_enabled: ContextVar[bool] = ContextVar("diffsegkit_validation", default=True)


@contextmanager
def validation(enabled: bool) -> Iterator[None]:
    """Switch the checks of the dataclasses on or off inside a ``with`` block.

    They cost one or two passes over every attention tensor, and a synchronisation on a GPU.
    The switch is local to the thread or task that uses it.

    Args:
        enabled: Whether the dataclasses built inside the block check their contents.

    Example:
        >>> import torch
        >>> from diffsegkit import AttentionMap, validation
        >>> with validation(False):
        ...     broken = AttentionMap(torch.full((1, 4, 4), 7.0), grid=(2, 2))
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def validation_enabled() -> bool:
    """Whether the dataclasses check their contents here and now."""
    return _enabled.get()


def check_grid(grid: object, name: str) -> None:
    """Raise unless ``grid`` is a pair of positive integers.

    Args:
        grid: The value to check, expected to be ``(height, width)`` in cells.
        name: What to call it in the message.

    Raises:
        ValueError: If it is anything else.
    """
    if (
        not isinstance(grid, tuple)
        or len(grid) != 2
        or not all(isinstance(side, Integral) and int(side) > 0 for side in grid)
    ):
        raise ValueError(
            f"Expected the grid of {name} to be a tuple (height, width) of positive integers, "
            f"but got {grid!r}."
        )


def check_distributions(values: Tensor, name: str) -> None:
    """Raise unless every row along the last axis is a probability distribution.

    Args:
        values: Floating-point tensor of shape ``(..., N)``.
        name: What to call it in the message.

    Raises:
        ValueError: If an entry is NaN, infinite or negative, or if a row's sum is further from 1
            than 1e-3 (1e-2 in float16, 2e-2 in bfloat16).
    """
    if not values.is_floating_point():
        raise ValueError(f"Expected {name} to be floating point, but got {values.dtype}.")
    if values.numel() == 0:
        raise ValueError(f"Expected {name} not to be empty, but got shape {tuple(values.shape)}.")
    # A NaN makes its row's sum NaN and an infinity makes it infinite, so the minimum and the sums
    # see everything, and no pass writes a tensor as large as the input. What is found is asked for
    # at once, because every answer makes a GPU wait.
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    sums = values.sum(-1, dtype=wide)
    broken = (~torch.isfinite(sums)).sum()
    found = torch.stack([broken.to(wide), values.min().to(wide), (sums - 1).abs().max()])
    any_broken, lowest, furthest = found.tolist()
    if any_broken:
        raise ValueError(
            f"Expected {name} to be finite, but {int(broken)} of {sums.numel()} rows contain NaN "
            "or infinity. Check the model's precision."
        )
    if lowest < 0:
        raise ValueError(f"Expected {name} to be non-negative, but its minimum is {lowest:.3g}.")
    tolerance = _TOLERANCE.get(values.dtype, _DEFAULT_TOLERANCE)
    if furthest > tolerance:
        raise ValueError(
            f"Expected every row of {name} to sum to 1 within {tolerance:g}, but one sum is off "
            f"by {furthest:.3g}. Divide each row by its sum."
        )
