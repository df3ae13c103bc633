"""Mean attention against softmax written out in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit.kernels import mean_attention
from diffsegkit.kernels.mean_attention import reference


def definition(q, k, scale):
    """Entry by entry, without matrix products."""
    logits = (q.double()[:, :, :, None] * k.double()[:, :, None]).sum(-1) * scale
    exponentials = torch.exp(logits - logits.max(-1, keepdim=True).values)
    return (exponentials / exponentials.sum(-1, keepdim=True)).mean(1)


def queries_and_keys(seed, shape, keys, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    images, heads, queries, channels = shape
    q = torch.randn(images, heads, queries, channels, generator=generator) * spread
    return q, torch.randn(images, heads, keys, channels, generator=generator) * spread


shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 11), st.integers(1, 7))


@given(shapes, st.integers(1, 13), st.integers(0, 10**6), st.floats(0.1, 5))
@settings(max_examples=60, deadline=None)
def test_matches_the_definition(shape, keys, seed, spread):
    q, k = queries_and_keys(seed, shape, keys, spread)
    found = mean_attention(q, k)
    assert found.dtype == torch.float32
    expected = definition(q, k, shape[-1] ** -0.5)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    precise = mean_attention(q.double(), k.double(), 0.3)
    torch.testing.assert_close(precise, definition(q, k, 0.3), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 100, 10**4])
def test_blocks_do_not_change_the_result(monkeypatch, block):
    """From one row at a time to everything at once."""
    q, k = queries_and_keys(1, (2, 3, 12, 4), 10)
    monkeypatch.setattr(reference, "_BLOCK_BYTES", {"cpu": 4 * block})
    largest = []
    softmax = torch.softmax

    def watched(logits, dim, out):
        largest.append(logits.numel())
        return softmax(logits, dim, out=out)

    monkeypatch.setattr(reference.torch, "softmax", watched)
    found = mean_attention(q, k)
    torch.testing.assert_close(found.double(), definition(q, k, 0.5), atol=1e-6, rtol=1e-5)
    assert max(largest) <= max(block, k.shape[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    q, k = (each.to(dtype) for each in queries_and_keys(2, (1, 2, 30, 8), 40, spread=4))
    found = mean_attention(q, k)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), definition(q, k, 8**-0.5), atol=1e-5, rtol=1e-4)


def test_large_logits_do_not_overflow():
    q = torch.full((1, 1, 2, 4), 3e4, dtype=torch.float16)
    torch.testing.assert_close(mean_attention(q, q), torch.full((1, 2, 2), 0.5))


def test_adds_to_what_is_there():
    q, k = queries_and_keys(3, (2, 2, 5, 4), 6)
    layers = torch.full((2, 5, 6), 0.25)
    returned = mean_attention(q, k, out=layers, weight=0.2)
    assert returned is layers
    expected = 0.25 + 0.2 * definition(q, k, 0.5)
    torch.testing.assert_close(layers.double(), expected, atol=1e-6, rtol=1e-6)


def test_one_location_attends_to_itself():
    q = torch.randn(1, 3, 1, 2)
    torch.testing.assert_close(mean_attention(q, q), torch.ones(1, 1, 1))


def test_no_gradient_is_kept():
    q = torch.randn(1, 1, 3, 2, requires_grad=True)
    assert not mean_attention(q, q).requires_grad


def test_views_of_a_projection_are_taken_as_they_are():
    """Heads come as transposed views of one projection."""
    projected = torch.randn(2, 6, 3 * 4)
    heads = projected.unflatten(2, (3, 4)).transpose(1, 2)
    torch.testing.assert_close(
        mean_attention(heads, heads), mean_attention(heads.contiguous(), heads.contiguous())
    )


@pytest.mark.parametrize(
    ("q", "k", "message"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), r"\(B, H, N, d\), but got \(2, 3, 4\)"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5), "agree in all but the number"),
        (torch.zeros(1, 2, 0, 4), torch.zeros(1, 2, 3, 4), "none to be empty"),
        (torch.zeros(1, 2, 3, 4).long(), torch.zeros(1, 2, 3, 4).long(), "floating point"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4).double(), "of one dtype"),
    ],
)
def test_wrong_inputs_are_told(q, k, message):
    with pytest.raises(ValueError, match=message):
        mean_attention(q, k)


def test_wrong_out_is_told():
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"of shape \(1, 3, 3\) on cpu, but got .* \(1, 3, 4\)"):
        mean_attention(q, q, out=torch.zeros(1, 3, 4))
