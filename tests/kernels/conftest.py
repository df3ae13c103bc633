"""What tests of Triton kernels share: memory full of NaN, and proof of which path ran."""

import pytest
import torch
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from diffsegkit.kernels.backend import triton_problem

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def device():
    """A GPU, or the CPU with Triton's interpreter; never a skip, because one of them always runs."""
    assert triton_problem(DEVICE) is None
    return DEVICE


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is full of NaN, or of 77, so that whatever a kernel forgets to write shows."""

    def poison(make):
        def filled(*args, **kwargs):
            made = make(*args, **kwargs)
            if made.dtype == torch.bool:
                return made.fill_(True)
            return made.fill_(torch.nan if made.is_floating_point() else 77)

        return filled

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, poison(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))


@pytest.fixture
def launched(monkeypatch):
    """The names of the Triton kernels that were started, in their order."""
    names = []

    def watch(run):
        def watched(kernel, *args, **kwargs):
            names.append(kernel.fn.__name__)
            return run(kernel, *args, **kwargs)

        return watched

    for kind in (JITFunction, InterpretedFunction):
        monkeypatch.setattr(kind, "run", watch(kind.run))
    return names
