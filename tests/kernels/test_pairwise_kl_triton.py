"""The Triton kernel of the distance against float64, in the interpreter or on a GPU."""

import pytest
import torch

from diffsegkit.errors import BackendError
from diffsegkit.kernels import kernel_backend, pairwise_kl
from tests.kernels.test_pairwise_kl import distributions

# float32's own error on 4096 locations is 1e-4; the fast mode's is documented as 1e-2.
TOLERANCE = {"float32": 1e-4, "fast": 1e-2}

SHAPES = [(1, 1, 1), (1, 3, 2), (5, 7, 50), (64, 64, 32), (65, 1, 33), (3, 130, 31), (70, 66, 257)]


def exact(x, y=None):
    """In float64, by PyTorch."""
    return pairwise_kl(x.double(), None if y is None else y.double(), backend="torch")


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_float64(device, poisoned, launched, shape, precision):
    rows, columns, locations = shape
    x = distributions(rows, rows, locations, 2.0).float().to(device)
    y = distributions(columns + 9, columns, locations, 2.0).float().to(device)
    found = pairwise_kl(x, y, backend="triton", precision=precision)
    assert launched == ["_pairwise_kl_kernel"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact(x, y), atol=TOLERANCE[precision], rtol=0)
    assert (found >= 0).all()


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (127, 9), (128, 40), (129, 33), (300, 7)])
def test_self_distance_writes_both_halves(device, poisoned, launched, shape, precision):
    x = distributions(0, *shape, 2.0).float().to(device)
    found = pairwise_kl(x, backend="triton", precision=precision)
    assert launched == ["_pairwise_kl_kernel"]
    torch.testing.assert_close(found.double(), exact(x), atol=TOLERANCE[precision], rtol=0)
    assert torch.equal(found, found.mT)
    assert torch.equal(found.diagonal(), torch.zeros_like(found.diagonal()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(device, poisoned, dtype):
    x = distributions(0, 9, 40).to(dtype).to(device)
    y = distributions(1, 5, 40).float().to(device)
    found = pairwise_kl(x, y, backend="triton")
    torch.testing.assert_close(found.double(), exact(x, y), atol=1e-4, rtol=0)


def test_batches_and_views(device, poisoned):
    """Rows that do not follow each other, and an image at a time."""
    x = torch.stack([distributions(seed, 5, 60).float() for seed in range(3)]).to(device)
    y = torch.stack([distributions(seed + 9, 4, 60).float() for seed in range(3)]).to(device)
    expected = exact(x, y)
    views = torch.cat([x, x], 2)[..., :60], y.mT.contiguous().mT
    for own, other in ((x, y), views):
        found = pairwise_kl(own, other, backend="triton")
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    loop = torch.stack([pairwise_kl(*pair, backend="triton") for pair in zip(x, y, strict=True)])
    assert torch.equal(pairwise_kl(x, y, backend="triton"), loop)
    every_other = pairwise_kl(x[:, ::2], backend="triton")
    torch.testing.assert_close(every_other.double(), exact(x[:, ::2]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("locations", "sharpness"), [(4096, 3.0), (4096, 6.0), (16384, 3.0)])
def test_accuracy_at_full_size(device, locations, sharpness):
    """The documented bounds, also where distances are near 30 and maps are one peak."""
    x = distributions(0, 16, locations, sharpness).float().to(device)
    y = distributions(1, 16, locations, sharpness).float().to(device)
    y[0] = 0
    y[0, 5] = 1
    for precision, bound in TOLERANCE.items():
        error = pairwise_kl(x, y, backend="triton", precision=precision).double() - exact(x, y)
        assert error.abs().max() < bound


def test_full_accuracy_is_needed_to_pass():
    """The bound of float32 is out of reach for float16 alone, so it shows which products ran."""
    x, y = distributions(0, 16, 4096, 3.0).float(), distributions(1, 16, 4096, 3.0).float()
    fast = pairwise_kl(x, y, backend="triton", precision="fast").double() - exact(x, y)
    assert fast.abs().max() > TOLERANCE["float32"]


def test_zeros_and_nan(device, poisoned):
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 1.0]], device=device)
    found = pairwise_kl(x, x.clone(), backend="triton").cpu()
    assert found[0, 1] == pytest.approx(-torch.tensor(1e-12).log().item(), abs=1e-4)
    assert found[2].isnan().all()
    assert found[:, 2].isnan().all()
    assert pairwise_kl(x, backend="triton").isnan().sum() == 5


def test_what_cannot_run_is_told(device, monkeypatch):
    x = torch.full((2, 3), 1 / 3, device=device)
    with pytest.raises(BackendError, match="float64 there are no tensor cores"):
        pairwise_kl(x.double(), backend="triton")
    with pytest.raises(ValueError, match="`backend` to be one of"):
        pairwise_kl(x, backend="cuda")
    with pytest.raises(ValueError, match="`precision` to be one of"):
        pairwise_kl(x, precision="tf32")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError, match="pairwise_kl cannot run .* on 'cpu', and Triton needs"):
        pairwise_kl(x.cpu(), backend="triton")
    monkeypatch.setattr("diffsegkit.kernels.backend._is_installed", lambda: False)
    with pytest.raises(BackendError, match=r"triton is not installed; pip install 'diffsegkit"):
        pairwise_kl(x, backend="triton")


def test_a_context_decides_for_auto(device, launched):
    x = torch.full((2, 3), 1 / 3, device=device)
    with kernel_backend("triton"):
        pairwise_kl(x)
        pairwise_kl(x, backend="torch")
    assert launched == ["_pairwise_kl_kernel"]
    with kernel_backend("torch"):
        pairwise_kl(x)
    pairwise_kl(x.cpu())
    assert launched == ["_pairwise_kl_kernel"]
