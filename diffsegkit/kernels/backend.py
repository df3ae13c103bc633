"""Which implementation of a kernel runs: PyTorch's operations, or Triton's."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from diffsegkit.errors import BackendError

Backend = Literal["auto", "torch", "triton"]
"""``"auto"`` takes Triton on a GPU where it works, and PyTorch elsewhere."""

_logger = logging.getLogger("diffsegkit.kernels")
_automatic: ContextVar[Backend] = ContextVar("diffsegkit_kernel_backend", default="auto")
_logged: set[tuple[str, str]] = set()


@contextmanager
def kernel_backend(backend: Backend) -> Iterator[None]:
    """Say what ``"auto"`` means inside a ``with`` block.

    The built-in parts call every kernel with ``backend="auto"``, so this decides for whole
    segmenters. It is local to the thread or task that uses it.

    Args:
        backend: ``"torch"``, ``"triton"`` (an error where it cannot run), or ``"auto"``.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> import torch
        >>> from diffsegkit.kernels import kernel_backend, pairwise_kl
        >>> with kernel_backend("torch"):
        ...     distance = pairwise_kl(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    """
    _check(backend)
    token = _automatic.set(backend)
    try:
        yield
    finally:
        _automatic.reset(token)


def use_triton(kernel: str, backend: Backend, tensor: Tensor) -> bool:
    """Whether a kernel is to run in Triton.

    Args:
        kernel: Its name, for messages.
        backend: What the caller asked for.
        tensor: An input; its device and dtype matter.

    Raises:
        ValueError: If ``backend`` is unknown.
        BackendError: If Triton was asked for and cannot run; the message says why.
    """
    _check(backend)
    if backend == "auto":
        backend = _automatic.get()
    if backend == "torch":
        return False
    problem = triton_problem(tensor.device, tensor.dtype)
    if backend == "triton":
        if problem is not None:
            raise BackendError(
                f"{kernel} cannot run with backend='triton': {problem} Use backend='auto' or "
                "'torch'."
            )
        return True
    if problem is None and interpreting():
        problem = "TRITON_INTERPRET is set, and the interpreter is for tests."
    _log_once(tensor.device, problem)
    return problem is None


def triton_problem(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why Triton kernels cannot run, in a sentence; None if they can.

    Args:
        device: Where the tensors are.
        dtype: Theirs.
    """
    if not _is_installed():
        return "triton is not installed; pip install 'diffsegkit[triton]' brings it."
    if dtype == torch.float64:
        return "in float64 there are no tensor cores, so PyTorch computes it."
    if interpreting():
        return None if device.type == "cpu" else "Triton's interpreter needs tensors on the CPU."
    if device.type != "cuda":
        return f"the tensors are on {device.type!r}, and Triton needs a GPU."
    index = torch.cuda.current_device() if device.index is None else device.index
    return _probe(index)


def interpreting() -> bool:
    """Whether Triton runs kernels on the CPU, in its interpreter, as the tests do."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


@cache
def _is_installed() -> bool:
    # Asked once, as it looks through folders, and kernels of small bands are called often.
    return find_spec("triton") is not None


@cache
def _probe(index: int) -> str | None:
    """Compile and run the smallest kernel, because a GPU alone does not make Triton work."""
    from diffsegkit.kernels.probe import fill

    try:
        filled = fill(torch.zeros(3, device=torch.device("cuda", index)))
        torch.cuda.synchronize(index)
    except Exception as error:  # noqa: BLE001 - whatever a compiler or driver may raise
        reason = " ".join(str(error).split())[:200]
        return f"a kernel failed on cuda:{index} ({type(error).__name__}: {reason})."
    if filled.tolist() != [1.0, 1.0, 1.0]:
        return f"a kernel gave a wrong result on cuda:{index}."
    return None


def _check(backend: object) -> None:
    if backend not in get_args(Backend):
        raise ValueError(
            f"Expected argument `backend` to be one of {get_args(Backend)}, but got {backend!r}."
        )


def _log_once(device: torch.device, problem: str | None) -> None:
    key = (device.type, problem or "")
    if key in _logged:
        return
    _logged.add(key)
    if problem is None:
        _logger.info("Triton kernels are used on %s.", device.type)
    else:
        # On a GPU that is worth knowing; on a CPU it is as it should be.
        level = logging.WARNING if device.type == "cuda" else logging.INFO
        _logger.log(level, "PyTorch kernels are used on %s: %s", device.type, problem)
