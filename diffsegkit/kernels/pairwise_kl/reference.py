"""The matrix form in PyTorch, for any device and dtype."""

from collections.abc import Iterator

import torch
from torch import Tensor

LOG_FLOOR = 1e-12
"""Logarithms clamp their argument here, so that a zero entry costs a finite distance."""

_BLOCK_BYTES = {"cpu": 8 * 2**20}  # what the caches of a few cores hold is fastest
_DEFAULT_BLOCK_BYTES = 64 * 2**20


def pairwise_kl_reference(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Two matrix products, or half of each for the self-distance, and the entropies.

    D = 1/2 [h(x) + h(y) - x log(y)^T - log(x) y^T] with h(p) = sum p log p.

    Rows pass by in blocks, so the logarithms of two blocks are all that is in memory beside the
    result.

    Args:
        x: ``(M, N)`` or ``(B, M, N)``, float32 or float64.
        y: ``(K, N)`` or ``(B, K, N)`` of the same dtype, or None for the self-distance.

    Returns:
        ``(M, K)`` or ``(B, M, K)``, in nats.
    """
    out = x.new_empty((*x.shape[:-1], (x if y is None else y).shape[-2]))
    if x.ndim == 2:
        _image_distances(x, y, out)
    else:
        for image, own in enumerate(x):
            _image_distances(own, None if y is None else y[image], out[image])
    return out.mul_(0.5).clamp_min_(0)


def logarithm(maps: Tensor) -> Tensor:
    """The clamped logarithm of ``(..., N)``."""
    return maps.clamp_min(LOG_FLOOR).log_()


def doubled_distances(x: Tensor, log_x: Tensor, h_x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """Twice the distances of some rows to a block of others.

    Args:
        x: ``(M, N)``.
        log_x: Its :func:`logarithm`.
        h_x: ``(M,)``, the sums of their products.
        y: ``(K, N)``, few enough rows for their logarithm to be in memory.
        out: ``(M, K)``, overwritten; may be part of a larger tensor.

    Returns:
        ``out``.
    """
    log_y = logarithm(y)
    torch.mm(x, log_y.mT, out=out)
    out.addmm_(log_x, y.mT)
    h_y = log_y.mul_(y).sum(1)  # log_y is not needed any more
    return out.neg_().add_(h_x[:, None]).add_(h_y)


def row_blocks(maps: Tensor) -> Iterator[slice]:
    """Rows of ``(M, N)`` in pieces that a cache holds."""
    limit = _BLOCK_BYTES.get(maps.device.type, _DEFAULT_BLOCK_BYTES)
    step = max(1, limit // max(1, maps.shape[1] * maps.element_size()))
    for start in range(0, len(maps), step):
        yield slice(start, min(start + step, len(maps)))


def _image_distances(x: Tensor, y: Tensor | None, out: Tensor) -> None:
    if y is None:
        _self_distances(x, out)
    else:
        _distances(x, y, out)


def _distances(x: Tensor, y: Tensor, out: Tensor) -> None:
    for rows in row_blocks(x):
        log_x = logarithm(x[rows])
        h_x = (x[rows] * log_x).sum(1)
        for columns in row_blocks(y):
            doubled_distances(x[rows], log_x, h_x, y[columns], out[rows, columns])


def _self_distances(x: Tensor, out: Tensor) -> None:
    """The blocks on and above the diagonal; below it are the same."""
    for rows in row_blocks(x):
        log_x = logarithm(x[rows])
        h_x = (x[rows] * log_x).sum(1)
        # Both crosses are added before anything else, so that rounding keeps the symmetry too.
        cross = x[rows] @ log_x.mT
        torch.add(cross, cross.mT, out=out[rows, rows])
        out[rows, rows].neg_().add_(h_x[:, None] + h_x)
        for columns in row_blocks(x):
            if columns.start > rows.start:
                block = doubled_distances(x[rows], log_x, h_x, x[columns], out[rows, columns])
                out[columns, rows] = block.mT
    # x·log x cancels against h(x) only up to rounding; a row of NaN keeps its NaN.
    out.diagonal().mul_(0)
