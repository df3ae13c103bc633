"""Eigenvectors against SciPy's generalised solver."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from diffsegkit_ncut import cut_vectors
from diffsegkit_ncut.eigen import with_fixed_signs

SOLVERS = ["dense", "arpack", "lobpcg", "auto"]


def graph(number, generator):
    """Points on a line that are linked by nearness; well separated eigenvalues."""
    at = torch.rand(number, generator=generator, dtype=torch.float64) * 4
    return torch.exp(-((at[:, None] - at) ** 2))


@pytest.mark.parametrize("number", [9, 40, 333])
@pytest.mark.parametrize("solver", SOLVERS)
def test_they_solve_the_generalised_problem(solver, number, generator):
    weights = graph(number, generator)
    degree = torch.diag(weights.sum(1)).numpy()
    expected, vectors = eigh(degree - weights.numpy(), degree, subset_by_index=[0, 2])
    values, found = cut_vectors(weights, 3, solver)
    np.testing.assert_allclose(values, np.clip(expected, 0, 2), atol=1e-8)
    np.testing.assert_allclose(found.abs(), np.abs(vectors), atol=1e-6)
    norms = torch.einsum("nk,n,nk->k", found, weights.sum(1), found)
    np.testing.assert_allclose(norms, 1, atol=1e-9)
    for column in found.T:
        assert column[column.abs().argmax()] > 0


@pytest.mark.parametrize("number", [40, 333])
def test_all_solvers_give_the_same_vectors(number, generator):
    weights = graph(number, generator)
    reference = cut_vectors(weights, 3, "dense")[1]
    for solver in SOLVERS[1:]:
        torch.testing.assert_close(cut_vectors(weights, 3, solver)[1], reference, atol=1e-6, rtol=0)


def test_permuting_locations_permutes_entries(generator):
    weights = graph(50, generator)
    order = torch.randperm(50, generator=generator)
    _, vectors = cut_vectors(weights, 2)
    _, permuted = cut_vectors(weights[order][:, order], 2)
    torch.testing.assert_close(permuted, vectors[order], atol=1e-8, rtol=0)


def test_signs_are_fixed_by_the_first_of_the_largest_entries():
    vectors = torch.tensor(
        [[0.1, -3.0], [-2.0, 3.0 + 1e-9], [2.0 + 1e-9, 1.0]], dtype=torch.float64
    )
    fixed = with_fixed_signs(vectors)
    assert torch.equal(fixed, torch.stack([-vectors[:, 0], -vectors[:, 1]], dim=1))
    assert torch.equal(with_fixed_signs(-vectors), fixed)
    assert torch.equal(with_fixed_signs(torch.zeros(3, 1)), torch.zeros(3, 1))


def test_one_location():
    values, vectors = cut_vectors(torch.tensor([[4.0]]), 1)
    assert (values.tolist(), vectors.tolist()) == ([0.0], [[0.5]])


@pytest.mark.parametrize(
    ("weights", "count", "solver", "message"),
    [
        (torch.ones(3, 3), 4, "auto", "`count` between 1 and the 3 locations, but got 4"),
        (torch.ones(3, 3), 2, "lapack", "`solver` to be one of .* but got 'lapack'"),
        (torch.diag(torch.tensor([1.0, 0.0])), 1, "auto", "linked to something, but one is not"),
    ],
)
def test_wrong_arguments(weights, count, solver, message):
    with pytest.raises(ValueError, match=message):
        cut_vectors(weights, count, solver)
