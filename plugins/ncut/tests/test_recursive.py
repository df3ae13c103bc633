"""Recursive cuts against known blocks and against a slow reference with loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit import AggregatedAttention
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.errors import UsageError
from diffsegkit_ncut import RecursiveNcutMerger, attention_affinity, cosine_affinity
from diffsegkit_ncut.graph import by_first_location
from diffsegkit_ncut.recursive import normalised_cut
from graphs import aggregated, blocks, dense_ncut, dense_recursive, same_partition, vectors_of

SOLVERS = ["dense", "arpack", "lobpcg", "auto"]


@pytest.mark.parametrize("between", [0.0, 0.01])
@pytest.mark.parametrize("solver", SOLVERS)
def test_blocks_are_found(solver, between, generator):
    weights, of = blocks([30, 12, 50, 8], between, generator)
    order = torch.randperm(100, generator=generator)
    merger = RecursiveNcutMerger(eigensolver=solver)
    assert same_partition(merger.cut(weights), of)
    assert same_partition(merger.cut(weights[order][:, order]), of[order])


@pytest.mark.parametrize("tau", [0.35, 0.5, 0.8])
@pytest.mark.parametrize("min_share", [0.0, 0.1])
@pytest.mark.parametrize("solver", SOLVERS)
def test_it_is_the_slow_recursion(solver, tau, min_share, generator):
    """Points in a plane: no clear blocks, so that every step of the recursion counts."""
    at = torch.rand(80, 2, generator=generator, dtype=torch.float64)
    weights = torch.exp(-20 * torch.cdist(at, at) ** 2)
    found = RecursiveNcutMerger(tau, min_share=min_share, eigensolver=solver).cut(weights)
    expected = dense_recursive(weights, tau, max(1.0, min_share * 80))
    assert same_partition(found, expected)
    assert len(expected.unique()) > 1
    if min_share:
        assert int(torch.bincount(found).min()) >= 8


def test_a_larger_tau_cuts_on(generator):
    at = torch.rand(80, 2, generator=generator, dtype=torch.float64)
    weights = torch.exp(-20 * torch.cdist(at, at) ** 2)
    numbers = [len(RecursiveNcutMerger(tau).cut(weights).unique()) for tau in (0.0, 0.35, 0.5, 1.0)]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_the_normalised_cut_is_its_definition(number, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(number, number, generator=generator, dtype=torch.float64)
    weights = weights + weights.mT
    sides = torch.rand(5, number, generator=generator) > 0.5
    for side, cost in zip(sides, normalised_cut(weights, sides).tolist(), strict=True):
        if bool(side.any()) and not bool(side.all()):
            assert cost == pytest.approx(dense_ncut(weights, side.numpy()), abs=1e-12)
        else:
            assert cost == 2


def test_features_on_a_grid_that_is_not_square(generator):
    kinds = torch.zeros(5, 9, dtype=torch.int64)
    kinds[:, 5:], kinds[3:, :2] = 1, 2
    features = vectors_of(kinds.flatten(), 0.05, generator).mT.reshape(1, -1, 5, 9)
    [proposals] = RecursiveNcutMerger()(aggregated(features))
    assert proposals.grid == (5, 9)
    assert torch.equal(proposals.scores.argmax(0), by_first_location(kinds.flatten()).reshape(5, 9))
    [labels] = ArgmaxAssigner()([proposals], (5, 9))
    assert torch.equal(labels, proposals.scores.argmax(0))
    torch.testing.assert_close(proposals.maps.sum((1, 2)), torch.ones(3))
    # Borders lie halfway between cells, however small the segment is.
    [fine] = ArgmaxAssigner()([proposals], (50, 90))
    assert torch.equal(fine[:30], proposals.scores.argmax(0).repeat_interleave(10, 0).repeat_interleave(10, 1)[:30])  # fmt: skip


def test_a_batch_is_a_loop_and_the_grid_is_that_of_the_features(generator):
    features = torch.randn(3, 6, 4, 7, generator=generator)
    merger = RecursiveNcutMerger(tau=0.9, alpha=2)
    together = merger(aggregated(features, grid=(2, 3)))
    for index in range(3):
        [alone] = merger(aggregated(features[index : index + 1], grid=(2, 3)))
        assert torch.equal(alone.scores, together[index].scores)
        assert alone.grid == (4, 7)


def test_attention_as_weights(generator):
    weights, of = blocks([6, 6, 8], 0.02, generator)
    probs = (weights / weights.sum(1, keepdim=True)).float()
    merger = RecursiveNcutMerger(affinity="attention")
    [proposals] = merger(AggregatedAttention(probs[None], (4, 5)))
    assert torch.equal(proposals.scores.argmax(0).flatten(), of)
    torch.testing.assert_close(attention_affinity(probs), attention_affinity(probs).mT)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_alike_is_one_segment(value):
    features = torch.full((1, 4, 3, 5), value)
    [proposals] = RecursiveNcutMerger()(aggregated(features))
    assert len(proposals) == 1


def test_one_location():
    [proposals] = RecursiveNcutMerger()(aggregated(torch.ones(1, 4, 1, 1)))
    assert (len(proposals), proposals.grid) == (1, (1, 1))


def test_the_mean_over_feature_maps(generator):
    """Two maps, of which each tells two of three parts apart."""
    kinds = torch.tensor([0] * 6 + [1] * 6 + [2] * 6).reshape(3, 6)
    first, second = (kinds > 0).long(), (kinds > 1).long()
    maps = [vectors_of(own.flatten(), 0.02, generator).mT.reshape(1, -1, 3, 6) for own in (first, second)]  # fmt: skip
    merger = RecursiveNcutMerger(tau=0.6, feature_maps="all")
    assert torch.equal(merger(aggregated(maps))[0].scores.argmax(0), kinds)
    assert len(RecursiveNcutMerger(tau=0.6)(aggregated(maps))[0]) == 2
    other = [maps[0], torch.ones(1, 3, 2, 2)]
    with pytest.raises(ValueError, match="of one grid for feature_maps='all', but got"):
        merger(aggregated(other))


def test_cosines(generator):
    features = torch.randn(7, 5, generator=generator)
    cosines = torch.corrcoef(torch.cat([features, -features], dim=1).double())  # mean 0: cosines
    expected = ((cosines - cosines.min()) / (cosines.max() - cosines.min())) ** 3
    torch.testing.assert_close(cosine_affinity(features, 3), expected)
    assert torch.equal(cosine_affinity(torch.ones(3, 2)), torch.ones(3, 3).double())


def test_no_features_is_told():
    bare = AggregatedAttention(torch.eye(6)[None], (2, 3))
    with pytest.raises(UsageError, match="RecursiveNcutMerger compares features, but"):
        RecursiveNcutMerger()(bare)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 3}, "`tau` between 0 and 2, but got 3"),
        ({"tau": float("nan")}, "`tau` between 0 and 2, but got nan"),
        ({"alpha": -1}, "`alpha` between 0 and inf"),
        ({"splits": 0}, "`splits` to be at least 1"),
        ({"min_share": 0.6}, "`min_share` between 0 and 0.5"),
        ({"affinity": "colour"}, "`affinity` to be one of .* but got 'colour'"),
        ({"feature_maps": "first"}, "`feature_maps` to be one of"),
        ({"eigensolver": "qr"}, "`eigensolver` to be one of"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RecursiveNcutMerger(**options)
