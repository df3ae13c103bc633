"""Checks of arguments that several assigners have."""

from math import isfinite


def check_positive(name: str, value: float) -> float:
    """Raise unless a number is finite and above 0.

    Raises:
        ValueError: If not.
    """
    if not (isfinite(value) and value > 0):
        raise ValueError(f"Expected argument `{name}` to be above 0, but got {value}.")
    return float(value)


def check_not_negative(name: str, value: float) -> float:
    """Raise unless a number is finite and not below 0.

    Raises:
        ValueError: If not.
    """
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"Expected argument `{name}` to be at least 0, but got {value}.")
    return float(value)


def check_count(name: str, value: int, least: int = 1) -> int:
    """Raise unless a number is whole and not below a least one.

    Raises:
        ValueError: If not.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(
            f"Expected argument `{name}` to be a whole number, at least {least}, but got {value!r}."
        )
    return value
