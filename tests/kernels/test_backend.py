"""Which implementation is chosen, what is said of it, and what is refused."""

import logging
import threading
from types import SimpleNamespace

import pytest
import torch

from diffsegkit.errors import BackendError, UsageError
from diffsegkit.kernels import backend, kernel_backend, pairwise_kl
from diffsegkit.kernels.backend import triton_problem, use_triton

MAPS = torch.full((2, 3), 1 / 3)


@pytest.fixture
def said(caplog, monkeypatch):
    """What the log says, as if nothing had been said before."""
    monkeypatch.setattr(backend, "_logged", set())
    caplog.set_level(logging.INFO, "diffsegkit.kernels")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.fixture
def gpu(monkeypatch):
    """A tensor as if on a GPU on which Triton works, or does not."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def pretend(problem):
        monkeypatch.setattr(backend, "_probe", lambda index: problem)
        return SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)

    return pretend


def test_on_a_cpu_pytorch_is_used_and_said_once(said, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for _ in range(3):
        pairwise_kl(MAPS)
    [(level, message)] = said()
    assert level == "INFO"
    assert message.startswith("PyTorch kernels are used on cpu: the tensors are on 'cpu'")


def test_on_a_gpu_triton_is_used_and_said_once(said, gpu):
    tensor = gpu(None)
    assert [use_triton("absorb", "auto", tensor) for _ in range(2)] == [True, True]
    assert said() == [("INFO", "Triton kernels are used on cuda.")]
    # float64 is another choice, for a reason of its own.
    assert not use_triton(
        "absorb", "auto", SimpleNamespace(device=tensor.device, dtype=torch.double)
    )
    assert len(said()) == 2


def test_a_gpu_without_a_compiler_is_warned_of(said, gpu):
    tensor = gpu("a kernel failed on cuda:0 (RuntimeError: no C compiler).")
    assert not use_triton("absorb", "auto", tensor)
    [(level, message)] = said()
    assert level == "WARNING"
    assert "no C compiler" in message
    with pytest.raises(BackendError, match=r"absorb cannot run .* no C compiler\)\. Use backend="):
        use_triton("absorb", "triton", tensor)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_probe_finds_what_is_missing():
    problem = backend._probe(0)
    assert problem.startswith("a kernel failed on cuda:0 (")
    assert problem.endswith(").")


def test_the_probe_itself_runs(device):
    from diffsegkit.kernels.probe import fill

    assert fill(torch.zeros(3, device=device)).tolist() == [1, 1, 1]


def test_problems_are_told_apart(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_problem(torch.device("cpu")) is None
    assert "interpreter needs" in triton_problem(torch.device("meta"))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "'cpu', and Triton needs a GPU" in triton_problem(torch.device("cpu"))
    monkeypatch.setattr(backend, "_is_installed", lambda: False)
    assert "pip install 'diffsegkit[triton]'" in triton_problem(torch.device("cpu"))


def test_a_context_is_local_to_its_thread():
    found = {}

    def ask():
        found["elsewhere"] = use_triton("absorb", "auto", MAPS)

    with kernel_backend("torch"):
        with kernel_backend("triton"), pytest.raises(RuntimeError, match="on purpose"):
            raise RuntimeError("on purpose")
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        found["here"] = use_triton("absorb", "auto", MAPS)
    assert found == {"elsewhere": False, "here": False}
    with kernel_backend("triton"):
        assert use_triton("absorb", "auto", torch.zeros(1)) or torch.cuda.is_available()


def test_errors_are_wrong_usage():
    with pytest.raises(ValueError, match="`backend` to be one of"), kernel_backend("numba"):
        pass
    with pytest.raises(ValueError, match="`backend` to be one of"):
        use_triton("absorb", "cuda", MAPS)
    assert issubclass(BackendError, (UsageError, RuntimeError))
