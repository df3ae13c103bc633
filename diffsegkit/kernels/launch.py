"""How every Triton kernel is started."""

from typing import Any

import torch
from torch import Tensor


def launch(
    kernel: Any,  # noqa: ANN401
    grid: tuple[int, ...],
    like: Tensor,
    *args: Any,  # noqa: ANN401
    **options: Any,  # noqa: ANN401
) -> None:
    """Start a kernel on the GPU of one of its tensors, which need not be the current one.

    Args:
        kernel: What ``triton.jit`` made.
        grid: How many blocks along each of up to three axes.
        like: A tensor of the launch.
        args: The kernel's arguments.
        options: Its constants, and Triton's ``num_warps`` and ``num_stages``.
    """
    if 0 in grid:
        return
    with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
        # Products and sums may be fused; said here because Triton's default is about to change.
        kernel[grid](*args, enable_fp_fusion=True, **options)
