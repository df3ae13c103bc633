"""The distance against its definition in float64, by scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from diffsegkit.kernels import pairwise_kl
from diffsegkit.kernels.pairwise_kl import reference


def definition(x, y):
    """Half the sum of both KL divergences, entry by entry, in float64."""
    x, y = (np.maximum(values.double().numpy(), 1e-300) for values in (x, y))
    both = rel_entr(x[:, None], y[None]) + rel_entr(y[None], x[:, None])
    return torch.from_numpy(both.sum(-1) / 2)


def distributions(seed, rows, locations, sharpness=1.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, locations, generator=generator, dtype=torch.float64)
    return torch.softmax(logits * sharpness, -1)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 50))


@given(shapes, st.integers(0, 10**6), st.floats(0.1, 4))
@settings(max_examples=60, deadline=None)
def test_matches_the_definition(shape, seed, sharpness):
    rows, columns, locations = shape
    x = distributions(seed, rows, locations, sharpness)
    y = distributions(seed + 1, columns, locations, sharpness)
    torch.testing.assert_close(pairwise_kl(x, y), definition(x, y), atol=1e-9, rtol=1e-9)
    single = pairwise_kl(x.float(), y.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), definition(x, y), atol=1e-4, rtol=1e-4)


@given(st.integers(1, 9), st.integers(1, 50), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_self_distance_is_a_symmetric_one_with_a_zero_diagonal(rows, locations, seed):
    x = distributions(seed, rows, locations, 2.0).float()
    distance = pairwise_kl(x)
    torch.testing.assert_close(distance, pairwise_kl(x, x), atol=1e-4, rtol=1e-4)
    assert torch.equal(distance, distance.mT)
    assert torch.equal(distance.diagonal(), torch.zeros(rows))
    assert (distance >= 0).all()


def test_nearly_equal_rows_are_not_closer_than_zero():
    x = distributions(0, 50, 4096).float()
    y = x * (1 + 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    assert (pairwise_kl(x, y) >= 0).all()
    assert pairwise_kl(x, x.clone()).diagonal().max() < 1e-4


def test_permuting_locations_or_rows_permutes_the_distances():
    x, y = distributions(0, 5, 30), distributions(1, 6, 30)
    order, rows = torch.randperm(30), torch.randperm(5)
    torch.testing.assert_close(pairwise_kl(x[:, order], y[:, order]), pairwise_kl(x, y))
    torch.testing.assert_close(pairwise_kl(x[rows], y), pairwise_kl(x, y)[rows])


def test_a_batch_is_a_loop():
    x = torch.stack([distributions(seed, 4, 20) for seed in range(3)])
    y = torch.stack([distributions(seed + 9, 5, 20) for seed in range(3)])
    loop = torch.stack([pairwise_kl(*pair) for pair in zip(x, y, strict=True)])
    torch.testing.assert_close(pairwise_kl(x, y), loop)
    torch.testing.assert_close(pairwise_kl(x), torch.stack([pairwise_kl(one) for one in x]))


def test_zeros_cost_what_the_clamp_says():
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    # 1/2 [(1 - 0)(0 - log 1e-12) + (0 - 1)(log 1e-12 - 0)] = -log 1e-12
    torch.testing.assert_close(pairwise_kl(x, y), -torch.tensor([[1e-12]]).double().log())
    assert torch.isfinite(pairwise_kl(x.float(), y.float())).all()


@pytest.mark.parametrize("limit", [1, 7 * 40 * 8, 10**9])
def test_blocks_do_not_change_the_result(monkeypatch, limit):
    """From one row at a time to all at once; blocks need not divide the rows."""
    x, y = distributions(0, 33, 40, 2.0), distributions(1, 20, 40, 2.0)
    monkeypatch.setattr(reference, "_BLOCK_BYTES", {"cpu": limit})
    torch.testing.assert_close(pairwise_kl(x, y), definition(x, y))
    distance = pairwise_kl(x)
    torch.testing.assert_close(distance, definition(x, x), atol=1e-12, rtol=1e-9)
    assert torch.equal(distance, distance.mT)
    assert (distance.diagonal() == 0).all()


def test_empty_and_learned():
    assert pairwise_kl(torch.ones(0, 4), torch.ones(3, 4)).shape == (0, 3)
    assert pairwise_kl(torch.ones(2, 0)).tolist() == [[0, 0], [0, 0]]
    learned = torch.softmax(torch.randn(3, 5, requires_grad=True), 1)
    assert not pairwise_kl(learned).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x = distributions(0, 3, 16).to(dtype)
    distance = pairwise_kl(x)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, pairwise_kl(x.float()))


def test_accuracy_on_full_size_maps():
    """design: at most 1e-4 absolute in float32, with 4096 locations."""
    x, y = distributions(0, 8, 4096, 3.0), distributions(1, 8, 4096, 3.0)
    error = (pairwise_kl(x.float(), y.float()).double() - pairwise_kl(x, y)).abs().max()
    assert error < 1e-4


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.ones(3), None, "`x` to be of shape"),
        (torch.ones(2, 2), torch.ones(2, 3), "agree in batch size and number of locations"),
        (torch.ones(2, 2, 2), torch.ones(3, 2, 2), "agree in batch size"),
        (torch.ones(2, 2), torch.ones(1, 2, 2), "agree in batch size"),
        (torch.ones(2, 2, dtype=torch.int64), None, "floating point"),
        (torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64), "float64 both or neither"),
    ],
)
def test_wrong_arguments(x, y, message):
    with pytest.raises(ValueError, match=message):
        pairwise_kl(x, y)
