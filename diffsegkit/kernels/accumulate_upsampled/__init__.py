"""Attention of a coarse grid, upsampled and added to an aggregate of a finer one."""

from math import isqrt

import torch
from torch import Tensor

from diffsegkit.errors import BackendError
from diffsegkit.interfaces.checks import Grid, check_grid
from diffsegkit.kernels.accumulate_upsampled.reference import (
    accumulate_upsampled_reference,
    is_whole,
)
from diffsegkit.kernels.backend import Backend, use_triton

__all__ = ["accumulate_upsampled"]


def accumulate_upsampled(
    out: Tensor,
    probs: Tensor,
    grid: Grid,
    weight: float = 1.0,
    *,
    target: Grid | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Add one resolution to DiffSeg's aggregate, in place and in one pass.

    As in the original (paper, section 3.2): the *key* axes of ``probs`` are upsampled bilinearly
    (half-pixel centres), each map is renormalised to sum to ``weight``, the *query* axes are
    repeated, and that is added. Nothing as large as ``out`` is ever allocated.

    Queries are those of the whole grids, or of a band of whole grid rows of both, so that an
    aggregate can be made a few rows at a time: each row of queries of ``probs`` is then repeated as
    often as there are rows in ``out`` for it, also where the band cuts through a repetition.

    The ratio of the grids need not be a whole number, and keys may also get fewer (antialiased).
    Then each query takes its nearest, only whole grids are accepted, and PyTorch computes.

    Args:
        out: ``(B, Q, H*W)``, float32 or float64, each map in one piece of memory; batches and
            queries may be strided.
        probs: ``(B, q, h*w)``, floating point, and float64 only if ``out`` is. Computed in the
            dtype of ``out``. A map that sums to 0 becomes NaN.
        grid: ``(h, w)``, the grid of ``probs``, in cells.
        weight: What each map adds to the sum of those of ``out``.
        target: ``(H, W)``, the grid of ``out``. By default as many times finer along both axes.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``.

    Returns:
        ``out``. It carries no gradient of ``probs``.

    Raises:
        ValueError: If shapes, dtypes, devices or grids do not agree.
        BackendError: If ``backend="triton"`` cannot run here, or not with these grids.

    Example:
        >>> import torch
        >>> from diffsegkit.kernels import accumulate_upsampled
        >>> coarse = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> accumulate_upsampled(torch.zeros(1, 4, 4), coarse, (1, 2), target=(1, 4))
        tensor([[[0.5000, 0.3750, 0.1250, 0.0000],
                 [0.5000, 0.3750, 0.1250, 0.0000],
                 [0.0000, 0.1250, 0.3750, 0.5000],
                 [0.0000, 0.1250, 0.3750, 0.5000]]])
    """
    grid = _check_grid(grid, "grid")
    _check_tensors(out, probs, grid)
    target = _finer(grid, out.shape[2]) if target is None else _check_grid(target, "target")
    _check_queries(out, probs, grid, target)
    with torch.no_grad():
        if use_triton("accumulate_upsampled", backend, out):
            if is_whole(grid, target):
                from diffsegkit.kernels.accumulate_upsampled.triton import (
                    accumulate_upsampled_triton,
                )

                return accumulate_upsampled_triton(out, probs, grid, target, weight)
            if backend == "triton":
                raise BackendError(
                    f"accumulate_upsampled cannot run with backend='triton': {target} is no whole "
                    f"multiple of {grid} along both axes. Use backend='auto' or 'torch'."
                )
        return accumulate_upsampled_reference(out, probs, grid, target, weight)


def _check_grid(grid: Grid, name: str) -> Grid:
    check_grid(grid, f"argument `{name}`")
    return int(grid[0]), int(grid[1])


def _check_tensors(out: Tensor, probs: Tensor, grid: Grid) -> None:
    if probs.ndim != 3 or probs.shape[2] != grid[0] * grid[1] or probs.numel() == 0:
        raise ValueError(
            f"Expected argument `probs` to be of shape (B, q, {grid[0] * grid[1]}) on a grid of "
            f"{grid}, and not empty, but got {tuple(probs.shape)}."
        )
    if out.ndim != 3 or out.shape[0] != probs.shape[0] or out.numel() == 0:
        raise ValueError(
            f"Expected argument `out` to be of shape ({probs.shape[0]}, Q, H*W), and not empty, "
            f"but got {tuple(out.shape)}."
        )
    if out.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"Expected argument `out` to be float32 or float64, but got {out.dtype}.")
    if out.shape[2] > 1 and out.stride(2) != 1:
        raise ValueError(
            "Expected argument `out` to have each map in one piece of memory, but got strides "
            f"{out.stride()}."
        )
    if not probs.is_floating_point() or (probs.dtype == torch.float64 != out.dtype):
        raise ValueError(
            "Expected argument `probs` to be floating point, and float64 only if `out` is, but got "
            f"{probs.dtype} with an `out` of {out.dtype}."
        )
    if probs.device != out.device:
        raise ValueError(
            "Expected arguments `out` and `probs` on one device, but got "
            f"{out.device} and {probs.device}."
        )


def _finer(grid: Grid, keys: int) -> Grid:
    """The grid with ``keys`` cells that is as many times finer along both axes."""
    cells = grid[0] * grid[1]
    ratio = isqrt(keys // cells)
    if ratio**2 * cells != keys:
        raise ValueError(
            f"Expected argument `target` to be given, because {keys} keys are on no grid that is a "
            f"whole number of times finer than {grid} along both axes."
        )
    return ratio * grid[0], ratio * grid[1]


def _check_queries(out: Tensor, probs: Tensor, grid: Grid, target: Grid) -> None:
    if target[0] * target[1] != out.shape[2]:
        raise ValueError(
            f"Expected argument `target` to be a grid of the {out.shape[2]} keys of `out`, but got "
            f"{target}."
        )
    queries, repeated = probs.shape[1], out.shape[1]
    if is_whole(grid, target):
        rows, repeated_rows = queries // grid[1], repeated // target[1]
        fits = (
            queries == rows * grid[1]
            and repeated == repeated_rows * target[1]
            and rows <= grid[0]
            and repeated_rows <= target[0]
            and repeated_rows % rows == 0
        )
        expected = "whole grids, or bands of whole rows of which one number divides the other"
    else:
        fits = queries == grid[0] * grid[1] and repeated == target[0] * target[1]
        expected = "whole grids, because their ratio is no whole number"
    if not fits:
        raise ValueError(
            f"Expected arguments `out` and `probs` to have the queries of {expected}, but got "
            f"{repeated} on a grid of {target} and {queries} on a grid of {grid}."
        )
