"""A tensor's values at the neighbours of every pixel."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional

Offset = tuple[int, int]
"""Rows down and columns to the right, in pixels."""


def ring(dilations: Sequence[int]) -> list[Offset]:
    """The eight neighbours at each distance.

    Args:
        dilations: The distances, in pixels.
    """
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    return [(y * dilation, x * dilation) for dilation in dilations for y, x in steps]


def square(radius: int, dilation: int = 1) -> list[Offset]:
    """All neighbours in a square around a pixel, without the pixel.

    Args:
        radius: Half the square's side, in steps.
        dilation: How many pixels a step is.
    """
    steps = range(-radius, radius + 1)
    return [(y * dilation, x * dilation) for y in steps for x in steps if (y, x) != (0, 0)]


def neighbours(values: Tensor, offsets: Sequence[Offset]) -> Iterator[Tensor]:
    """The values at each offset, one after another; beyond the border, those at the border.

    Args:
        values: ``(C, h, w)``.
        offsets: Which neighbours.

    Yields:
        ``(C, h, w)``, views of one padded copy.
    """
    reach = max(max(abs(y), abs(x)) for y, x in offsets)
    height, width = values.shape[1:]
    padded = functional.pad(values[None], (reach,) * 4, mode="replicate")[0]
    for y, x in offsets:
        yield padded[:, reach + y : reach + y + height, reach + x : reach + x + width]
