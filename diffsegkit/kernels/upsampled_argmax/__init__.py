"""Which of many maps is the largest at each pixel, after bilinear upsampling."""

import torch
from torch import Tensor

from diffsegkit.kernels.backend import Backend, use_triton
from diffsegkit.kernels.upsampled_argmax.reference import upsampled_argmax_reference

__all__ = ["upsampled_argmax"]


def upsampled_argmax(maps: Tensor, size: tuple[int, int], *, backend: Backend = "auto") -> Tensor:
    """Argmax over maps that are upsampled bilinearly, as DiffSeg assigns pixels.

    This is the paper's section 3.4, with half-pixel centres, clamped at the border. No map is ever
    stored at the size of the image. Interpolation is along the columns first, then the rows, in
    float32 (float64 if the maps are), at positions computed in float64.

    Among equals the first wins. NaN never wins, also where it results from infinities; where no map
    has anything else, the label is 0.

    Args:
        maps: ``(K, h, w)``, floating point.
        size: ``(H, W)`` in pixels; it may be smaller than the grid.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``, which compare the same values up to their
            rounding.

    Returns:
        ``(H, W)`` int64, indices of maps.

    Raises:
        ValueError: If ``maps`` is of another shape, empty or not floating point, ``size`` is not
            a pair of positive numbers, or ``backend`` is unknown.
        BackendError: If ``backend="triton"`` cannot run here.

    Example:
        >>> import torch
        >>> left_and_right = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
        >>> upsampled_argmax(left_and_right, (1, 4))
        tensor([[0, 0, 1, 1]])
    """
    _check(maps, size)
    with torch.no_grad():
        if use_triton("upsampled_argmax", backend, maps):
            from diffsegkit.kernels.upsampled_argmax.triton import upsampled_argmax_triton

            return upsampled_argmax_triton(maps.contiguous(), size)
        widened = maps if maps.dtype == torch.float64 else maps.float()
        return upsampled_argmax_reference(widened.contiguous(), size)


def _check(maps: Tensor, size: tuple[int, int]) -> None:
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(
            "Expected argument `maps` to be of shape (K, h, w), none of them 0, but got "
            f"{tuple(maps.shape)}."
        )
    if not maps.is_floating_point():
        raise ValueError(f"Expected argument `maps` to be floating point, but got {maps.dtype}.")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"Expected argument `size` to be (height, width) > 0, but got {size}.")
