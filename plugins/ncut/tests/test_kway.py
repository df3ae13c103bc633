"""K-way cuts against known blocks, exhaustive search and scikit-learn."""

import itertools

import pytest
import torch

from diffsegkit import AggregatedAttention
from diffsegkit_ncut import KWayNcutMerger, cut_vectors
from diffsegkit_ncut.kway import kway_cut, nearest_indicators, settled
from graphs import aggregated, blocks, dense_ncut, same_partition, vectors_of

SOLVERS = ["dense", "arpack", "lobpcg", "auto"]


@pytest.mark.parametrize("between", [0.0, 0.01])
@pytest.mark.parametrize("solver", SOLVERS)
def test_blocks_are_found(solver, between, generator):
    if between == 0 and solver in ("arpack", "lobpcg"):
        pytest.skip("an iteration need not find a multiple eigenvalue as often as it occurs")
    weights, of = blocks([30, 12, 50, 8], between, generator)
    order = torch.randperm(100, generator=generator)
    merger = KWayNcutMerger(eigensolver=solver)
    assert same_partition(merger.cut(weights), of)
    assert same_partition(merger.cut(weights[order][:, order]), of[order])


def test_k_is_the_number_of_small_eigenvalues(generator):
    weights, _ = blocks([10, 10, 10], 0.05, generator)
    values, _ = cut_vectors(weights, 5, "dense")
    assert values[2] < 0.3 < values[3]
    for limit, number in ((0.3, 3), (float(values[1]) / 2, 1)):
        assert len(KWayNcutMerger(limit).cut(weights).unique()) == number
    assert len(KWayNcutMerger(max_segments=2).cut(weights).unique()) == 2


def test_the_cut_of_two_is_the_normalised_cut(generator):
    weights, of = blocks([4, 5], 0.3, generator)
    assert kway_cut(weights, of) == pytest.approx(dense_ncut(weights, (of == 0).numpy()))
    assert kway_cut(weights, torch.zeros(9, dtype=torch.int64)) == 0


def test_moving_locations_never_raises_the_cut_and_often_lowers_it(generator):
    lowered = 0
    for _ in range(20):
        at = torch.rand(40, 2, generator=generator, dtype=torch.float64)
        weights = torch.exp(-10 * torch.cdist(at, at) ** 2)
        labels = torch.randint(0, 4, (40,), generator=generator)
        before, after = kway_cut(weights, labels), kway_cut(weights, settled(weights, labels))
        assert after <= before + 1e-9
        lowered += after < before - 1e-3
    assert lowered > 15


def test_small_graphs_have_the_best_cut_of_all(generator):
    weights, _ = blocks([3, 4, 2], 0.2, generator)
    found = KWayNcutMerger(max_value=0.9, max_segments=3).cut(weights)
    best = min(
        kway_cut(weights, torch.tensor(labels))
        for labels in itertools.product(range(3), repeat=9)
        if len(set(labels)) == 3
    )
    assert kway_cut(weights, found) == pytest.approx(best, abs=1e-9)


def test_it_agrees_with_scikit_learn(generator):
    cluster = pytest.importorskip("sklearn.cluster")
    weights, _ = blocks([20, 30, 25], 0.1, generator)
    theirs = cluster.spectral_clustering(
        weights.numpy(), n_clusters=3, assign_labels="cluster_qr", eigen_solver="arpack", random_state=0
    )  # fmt: skip
    ours = KWayNcutMerger(max_value=0.6, max_segments=3).cut(weights)
    assert same_partition(ours, torch.from_numpy(theirs))


def test_rotation_of_indicators_is_undone(generator):
    _, of = blocks([5, 9, 4])
    vectors = torch.nn.functional.one_hot(of).double()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    assert same_partition(nearest_indicators(vectors @ rotation), of)


def test_in_a_batch_on_a_grid_that_is_not_square(generator):
    kinds = torch.zeros(2, 4, 7, dtype=torch.int64)
    kinds[0, :, 3:], kinds[1, 2:] = 1, 1
    features = torch.stack([vectors_of(own.flatten(), 0.05, generator).mT.reshape(-1, 4, 7) for own in kinds])  # fmt: skip
    found = KWayNcutMerger()(aggregated(features))
    assert [torch.equal(own.scores.argmax(0), kind) for own, kind in zip(found, kinds, strict=True)] == [True] * 2  # fmt: skip


def test_all_alike_and_one_location_are_one_segment():
    assert len(KWayNcutMerger()(aggregated(torch.ones(1, 4, 3, 5)))[0]) == 1
    assert len(KWayNcutMerger()(aggregated(torch.ones(1, 4, 1, 1)))[0]) == 1


def test_a_location_without_links_is_a_part_of_its_own():
    probs = torch.block_diag(torch.full((3, 3), 1 / 3), torch.eye(1))
    merger = KWayNcutMerger(affinity="attention")
    [proposals] = merger(AggregatedAttention(probs[None], (2, 2)))
    assert proposals.scores.argmax(0).flatten().tolist() == [0, 0, 0, 1]
    weights = torch.block_diag(torch.ones(3, 3), torch.zeros(1, 1)).double()
    assert merger.cut(weights).unique().numel() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_value": -0.1}, "`max_value` between 0 and 2"),
        ({"max_segments": 0}, "`max_segments` to be at least 1"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        KWayNcutMerger(**options)
