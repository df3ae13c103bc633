"""Groups of what is close to each other, by walking over candidates in order."""

import torch
from torch import Tensor

from diffsegkit.kernels.backend import Backend, use_triton
from diffsegkit.kernels.greedy_groups.reference import greedy_groups_reference

__all__ = ["greedy_groups"]


def greedy_groups(
    close: Tensor, *, overlap: bool = True, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Groups of candidates, as DiffSeg's later merging rounds form them (paper, section 3.3).

    The candidates are walked in order. One that is in an earlier group is skipped; any other is a
    seed, whose group is all that is close to it. So the result depends on the order.

    Args:
        close: ``(K, K)`` bool: row i tells which candidates are close to the i-th, usually also
            itself. A seed that is not close to itself is not in its group.
        overlap: Whether a group may share candidates with earlier ones, as in the original.
        backend: ``"auto"``, ``"torch"`` (on the host, whatever the device) or ``"triton"``.

    Returns:
        The groups' members ``(count, K)`` bool and their seeds ``(count,)`` int64, ascending, on
        the device of ``close``.

    Raises:
        ValueError: If ``close`` is no square matrix of bool, or ``backend`` is unknown.
        BackendError: If ``backend="triton"`` cannot run here.

    Example:
        >>> import torch
        >>> chain = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
        >>> members, seeds = greedy_groups(chain)
        >>> members.int()
        tensor([[1, 1, 0],
                [0, 1, 1]], dtype=torch.int32)
        >>> seeds
        tensor([0, 2])
    """
    if close.ndim != 2 or close.shape[0] != close.shape[1]:
        raise ValueError(
            f"Expected argument `close` to be of shape (K, K), but got {tuple(close.shape)}."
        )
    if close.dtype != torch.bool:
        raise ValueError(f"Expected argument `close` to be torch.bool, but got {close.dtype}.")
    if use_triton("greedy_groups", backend, close):
        from diffsegkit.kernels.greedy_groups.triton import greedy_groups_triton

        return greedy_groups_triton(close.contiguous(), overlap)
    return greedy_groups_reference(close, overlap)
