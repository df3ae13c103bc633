"""The matrix form in PyTorch, for any device and dtype."""

import torch
from torch import Tensor

LOG_FLOOR = 1e-12
"""Logarithms clamp their argument here, so that a zero entry costs a finite distance."""


def pairwise_kl_reference(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Two matrix products (one for the self-distance) and the entropies.

    D = 1/2 [h(x) + h(y) - x log(y)^T - log(x) y^T] with h(p) = sum p log p.

    Args:
        x: ``(..., M, N)``, float32 or float64.
        y: ``(..., K, N)`` of the same dtype, or None for the self-distance.

    Returns:
        ``(..., M, K)`` in nats.
    """
    log_x = x.clamp_min(LOG_FLOOR).log_()
    h_x = torch.linalg.vecdot(x, log_x)
    if y is None:
        cross = x @ log_x.mT
        # Both crosses are added first, so that rounding keeps the symmetry too.
        distance: Tensor = h_x[..., :, None] + h_x[..., None, :] - (cross + cross.mT)
        # x·log x cancels against h(x) only up to rounding.
        distance.diagonal(dim1=-2, dim2=-1).zero_()
    else:
        log_y = y.clamp_min(LOG_FLOOR).log_()
        h_y = torch.linalg.vecdot(y, log_y)
        distance = h_x[..., :, None] + h_y[..., None, :]
        distance -= x @ log_y.mT
        distance -= log_x @ y.mT
    return distance.mul_(0.5).clamp_min_(0)
