"""Which maps are close to which anchors, and their sums, block by block, in PyTorch."""

import torch
from torch import Tensor

from diffsegkit.kernels.pairwise_kl.reference import doubled_distances, logarithm, row_blocks


def mark_close_reference(anchors: Tensor, maps: Tensor, threshold: float, members: Tensor) -> None:
    """Write into ``members`` which distances are below the threshold; none is kept.

    Args:
        anchors: ``(M, N)``, float32 or float64.
        maps: ``(K, N)`` likewise.
        threshold: In nats.
        members: ``(M, K)`` bool, overwritten.
    """
    logs = logarithm(anchors)
    entropies = (anchors * logs).sum(1)
    for rows in row_blocks(maps):
        block = maps[rows]
        doubled = anchors.new_empty((len(anchors), len(block)))
        doubled_distances(anchors, logs, entropies, block, doubled)
        # Doubling is exact in floating point, so this is distance < threshold to the last bit.
        torch.lt(doubled, 2 * threshold, out=members[:, rows])


def add_sums_reference(members: Tensor, values: Tensor, sums: Tensor) -> None:
    """Add to each sum the values of its members.

    Args:
        members: ``(M, K)`` bool.
        values: ``(K, N)``, float32 or float64.
        sums: ``(M, N)`` likewise, changed in place.
    """
    for rows in row_blocks(values):
        sums.addmm_(members[:, rows].to(values.dtype), values[rows])
