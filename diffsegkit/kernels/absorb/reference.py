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
        part, block = members[:, rows], values[rows]
        # Asking how many groups there are would make a GPU wait.
        groups = _groups(part) if values.device.type == "cpu" else None
        if groups is None:
            sums.addmm_(part.to(values.dtype), block)
        else:
            patterns, belongs = groups
            sums.addmm_(patterns.to(values.dtype), belongs.to(values.dtype) @ block)


def _groups(members: Tensor) -> tuple[Tensor, Tensor] | None:
    """Columns that are alike, where adding up their maps first saves most of the work.

    Neighbouring maps mostly have the same anchors: M x K ones and zeros are a product of M x U,
    the patterns that occur, and U x K, which column has which.

    Args:
        members: ``(M, K)`` bool.

    Returns:
        The patterns ``(M, U)`` and the columns of each ``(U, K)``, both bool; None where two
        products with them would be no faster than one.
    """
    num_sums, num_maps = members.shape
    # A random code per row makes a number of each column: exact, because 2**44 M < 2**53.
    codes = torch.randint(2**44, (num_sums,), generator=torch.Generator().manual_seed(0))
    numbers = codes.double() @ members.double()
    distinct, group = torch.unique(numbers, return_inverse=True)
    if len(distinct) * (num_sums + num_maps) > 0.7 * num_sums * num_maps:
        return None
    column = torch.empty(len(distinct), dtype=torch.int64)
    column[group] = torch.arange(num_maps)  # any one of those that are alike
    patterns = members[:, column]
    if not torch.equal(patterns[:, group], members):
        return None  # two patterns got one number
    belongs = torch.zeros((len(distinct), num_maps), dtype=torch.bool)
    return patterns, belongs.scatter_(0, group[None], True)
