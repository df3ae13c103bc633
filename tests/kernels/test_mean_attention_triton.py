"""The Triton kernels of mean attention against float64, in the interpreter or on a GPU."""

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from diffsegkit.errors import BackendError
from diffsegkit.kernels import kernel_backend, mean_attention
from tests.kernels.test_mean_attention import definition, queries_and_keys

PASSES = ["_maxima_and_sums_kernel", "_mean_attention_kernel"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]

# (images, heads, queries, keys, channels): one of everything; fewer than a tile; more than one tile
# and a rest; whole tiles; every number of channels of Stable Diffusion; more than a block of them.
SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 7, 7),
    (1, 2, 130, 70, 40),
    (2, 1, 3, 200, 64),
    (1, 2, 64, 128, 40),
    (1, 2, 128, 256, 16),
    (1, 3, 17, 33, 80),
    (1, 2, 16, 16, 160),
    (1, 1, 9, 20, 130),
]


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch):
    """The interpreter holds bfloat16 as its bits and would multiply those; a GPU is not concerned."""
    multiply = InterpreterBuilder.create_dot

    def widened(self, a, b, *args):
        a, b = (
            TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
            if operand.dtype.scalar == tl.bfloat16
            else operand
            for operand in (a, b)
        )
        return multiply(self, a, b, *args)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", widened)


def inputs(shape, device, dtype=torch.float32, seed=0, spread=1.5):
    images, heads, queries, keys, channels = shape
    q, k = queries_and_keys(seed, (images, heads, queries, channels), keys, spread)
    return q.to(device, dtype), k.to(device, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_definition(device, poisoned, launched, shape, dtype):
    q, k = inputs(shape, device, dtype)
    found = mean_attention(q, k, backend="triton")
    assert launched == PASSES
    assert found.dtype == torch.float32
    expected = definition(q, k, shape[-1] ** -0.5)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=2e-5)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7, 4), (1, 2, 64, 128, 16)], ids=str)
@pytest.mark.parametrize("strides", ["contiguous", "rows", "columns"])
def test_adds_to_any_view(device, poisoned, shape, strides):
    """Rows of a larger aggregate, and even columns that do not follow each other."""
    q, k = inputs(shape, device)
    images, _, queries, keys, _ = shape
    generator = torch.Generator().manual_seed(1)
    whole = torch.rand(images + 1, 2 * queries, keys + 3, generator=generator).to(device)
    out = {
        "contiguous": whole[1:, :queries, :keys].contiguous(),
        "rows": whole[1:, ::2, :keys],
        "columns": whole[1:, :queries, :keys].mT.contiguous().mT,
    }[strides]
    before, whole_before = out.double(), whole.clone()
    returned = mean_attention(q, k, 0.3, out=out, weight=0.7, backend="triton")
    assert returned is out
    expected = before + 0.7 * definition(q, k, 0.3)
    torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=1e-6)
    if strides == "rows":
        assert torch.equal(whole[:1], whole_before[:1])
        assert torch.equal(whole[:, 1::2], whole_before[:, 1::2])
        assert torch.equal(whole[:, :, keys:], whole_before[:, :, keys:])


def test_a_new_map_is_weighted(device, poisoned):
    q, k = inputs((1, 2, 5, 9, 4), device)
    found = mean_attention(q, k, weight=0.25, backend="triton")
    torch.testing.assert_close(found.sum(-1), torch.full((1, 5), 0.25, device=device))


@pytest.mark.parametrize("channels", [5, 40])
def test_views_of_a_projection(device, poisoned, launched, channels):
    """Heads as transposed views, with strides that 8 divides or not, and channels that are apart."""
    q, k = inputs((2, 3, 20, 30, channels), device)
    expected = definition(q, k, channels**-0.5)
    views = [
        [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k)],
        [each.mT.contiguous().mT for each in (q, k)],
        [torch.cat([each, each], -1)[..., :channels] for each in (q, k)],
    ]
    for one, other in views:
        assert not one.is_contiguous()
        found = mean_attention(one, other, backend="triton")
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    assert launched == PASSES * 3


def test_batches_and_blocks_of_queries_are_a_loop(device, poisoned):
    q, k = inputs((3, 2, 70, 40, 8), device)
    together = mean_attention(q, k, backend="triton")
    for image in range(3):
        one = slice(image, image + 1)
        assert torch.equal(mean_attention(q[one], k[one], backend="triton"), together[one])
    blocks = [
        mean_attention(q[:, :, rows], k, backend="triton") for rows in (slice(64), slice(64, 70))
    ]
    torch.testing.assert_close(torch.cat(blocks, 1), together, atol=1e-7, rtol=1e-6)


def test_the_maximum_is_carried_through_the_keys(device, poisoned):
    """Each block of keys is far above the one before, or far below: e to the 90 overflows."""
    k = torch.linspace(-300, 300, 400, device=device).view(1, 1, 400, 1)
    q = torch.tensor([1.0, -1.0], device=device).view(1, 1, 2, 1)
    found = mean_attention(q, k, 1.0, backend="triton")
    torch.testing.assert_close(found.double(), definition(q, k, 1.0), atol=1e-6, rtol=1e-3)
    q = torch.full((1, 1, 2, 4), 3e4, dtype=torch.float16, device=device)
    uniform = mean_attention(q, q, backend="triton")
    assert torch.equal(uniform, torch.full((1, 2, 2), 0.5, device=device))


@pytest.mark.parametrize("scale", [0.0, -0.8])
def test_any_scale(device, poisoned, scale):
    q, k = inputs((1, 2, 5, 140, 6), device)
    found = mean_attention(q, k, scale, backend="triton")
    torch.testing.assert_close(found.double(), definition(q, k, scale), atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered in matmul")
def test_a_whole_block_of_impossible_keys(device, poisoned):
    """Logits of -inf weigh nothing, also where a block has no other."""
    k = torch.full((1, 1, 300, 1), -1e30, device=device)
    k[:, :, 299] = 0
    q = torch.full((1, 1, 2, 1), 1e30, device=device)
    found = mean_attention(q, k, 1.0, backend="triton")
    expected = torch.zeros(1, 2, 300, device=device)
    expected[:, :, 299] = 1
    assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_is_seen_where_it_belongs(device, poisoned, dtype):
    q, k = inputs((2, 2, 70, 150, 5), device, dtype)
    q[0, 1, 66, 3] = torch.nan
    found = mean_attention(q, k, backend="triton")
    assert found[0, 66].isnan().all()
    assert found.isnan().sum() == 150
    k[1, 0, 2, 0] = torch.nan
    found = mean_attention(q, k, backend="triton")
    assert found[1].isnan().all()
    assert found[0].isnan().sum() == 150


def test_no_gradient_is_kept(device):
    q = torch.randn(1, 1, 3, 2, device=device, requires_grad=True)
    assert not mean_attention(q, q, backend="triton").requires_grad


def test_which_one_runs(device, launched, monkeypatch):
    q = torch.zeros(1, 2, 3, 4, device=device)
    with kernel_backend("triton"):
        mean_attention(q, q)
        assert launched == PASSES
        mean_attention(q, q, backend="torch")
        with pytest.raises(BackendError, match="mean_attention cannot run .* float64"):
            mean_attention(q.double(), q.double())
    mean_attention(q.double(), q.double())
    mean_attention(q.cpu(), q.cpu())
    assert launched == PASSES
    with pytest.raises(ValueError, match="`backend` to be one of"):
        mean_attention(q, q, backend="cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError, match="mean_attention cannot run .* Triton needs a GPU"):
        mean_attention(q.cpu(), q.cpu(), backend="triton")
