"""Attention in float16, without losing what is small."""

from torch import Tensor

SCALE = 2.0**15
"""What attention is multiplied with before it is rounded to float16.

Of 4096 entries the mean is 2.4e-4, and below 6.1e-5 float16 loses digits; below 3e-8 nothing is
left, whose logarithm the distance of maps needs. Scaled, these limits are 1.9e-9 and 9e-13, which
is about where logarithms are clamped anyhow, and an entry of 1 still fits (65504 is the largest).
"""


def to_half(probs: Tensor) -> Tensor:
    """Round attention to float16, times :data:`SCALE`.

    Args:
        probs: ``(..., N)``, floating point.
    """
    return probs.mul(SCALE).half()


def from_half(scaled: Tensor, out: Tensor | None = None) -> Tensor:
    """Attention again: float32, every row divided by its sum.

    So rounding leaves distributions, also where a source's own rows were as far from 1 as half
    precision may be. Label maps are the same as after division by 2**15.

    Args:
        scaled: ``(..., N)`` float16, from :func:`to_half`.
        out: Where to, float32 of the same shape on any device; new memory by default.
    """
    probs = scaled.float() if out is None else out.copy_(scaled)
    return probs.div_(probs.sum(-1, keepdim=True))
