"""TokenRank against eigenvectors, and anchors by hand."""

import numpy as np
import pytest
import scipy.linalg
import torch

from diffsegkit import AggregatedAttention
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit_walk import TokenRankAnchors, token_rank


def chain(number, generator):
    values = torch.rand(number, number, generator=generator).pow(4) + 1e-3
    return values / values.sum(-1, keepdim=True)


@pytest.mark.parametrize("teleport", [0.01, 0.15, 1.0])
def test_it_is_the_leading_left_eigenvector(teleport, generator):
    transitions = chain(12, generator).double()
    google = (1 - teleport) * transitions.numpy() + teleport / 12
    values, vectors = scipy.linalg.eig(google.T)
    leading = np.real(vectors[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(
        token_rank(transitions, teleport), leading / leading.sum(), atol=1e-9
    )


def test_parts_that_are_not_linked_share_by_their_size(generator):
    transitions = torch.block_diag(chain(4, generator), chain(12, generator))
    rank = token_rank(transitions, 0.05)
    assert rank[:4].sum() == pytest.approx(0.25, abs=1e-6)
    assert rank.sum() == pytest.approx(1)


def test_doubly_stochastic_attention_ranks_all_alike():
    rank = token_rank(torch.eye(5).roll(1, 1) * 0.5 + torch.eye(5) * 0.5)
    torch.testing.assert_close(rank, torch.full((5,), 0.2, dtype=torch.float64))


def aggregated(columns, grid):
    """Attention that does not depend on the query: the rank is the columns' own weight."""
    weights = torch.tensor(columns) / sum(columns)
    return AggregatedAttention(weights.expand(1, len(columns), -1).contiguous(), grid)


def test_anchors_are_the_best_that_are_apart():
    # 2 x 6 cells, 3 anchors a side: one row and two columns apart.
    weights = [9.0, 8.0, 1.0, 1.0, 7.0, 1.0, 1.0, 1.0, 6.0, 1.0, 1.0, 5.0]
    [anchors] = TokenRankAnchors(0.001)(aggregated(weights, (2, 6)), 3)
    # 0 (9); 1 is a neighbour; 4 (7); 8 (6); 11 (5); and of the equal ones the first that is free.
    assert anchors.tolist() == [0, 4, 8, 11, 2, 6]


def test_of_equal_ranks_the_first_wins_and_the_number_is_kept():
    [anchors] = TokenRankAnchors()(aggregated([1.0] * 24, (4, 6)), 2)
    assert anchors.tolist() == [0, 3, 12, 15]
    [all_of_them] = TokenRankAnchors()(aggregated([1.0] * 24, (4, 6)), 50)
    assert all_of_them.tolist() == list(range(24))
    [one] = TokenRankAnchors()(aggregated([1.0, 3.0], (1, 2)), 1)
    assert one.tolist() == [1]


def test_each_image_has_its_own_and_a_batch_is_a_loop(generator):
    probs = torch.stack([chain(20, generator), chain(20, generator)])
    both = TokenRankAnchors()(AggregatedAttention(probs, (4, 5)), 3)
    for own, image in zip(both, probs, strict=True):
        [alone] = TokenRankAnchors()(AggregatedAttention(image[None], (4, 5)), 3)
        assert torch.equal(own, alone)
        assert len(own.unique()) == len(own) <= 9
    assert not torch.equal(both[0], both[1])


def test_mergers_start_from_them(generator):
    blocks = torch.block_diag(torch.full((6, 6), 1 / 6), torch.full((6, 6), 1 / 6))
    merger = IterativeKLMerger(1.0, points_per_side=3, anchors=TokenRankAnchors())
    [proposals] = merger(AggregatedAttention(blocks[None], (2, 6)))
    assert {int(seed) for seed in proposals.rounds[0].seeds} <= set(range(12))
    assert proposals.maps.flatten(1).argmax(1).tolist() != []


@pytest.mark.parametrize("teleport", [0, 1.5, float("nan")])
def test_wrong_teleports(teleport):
    with pytest.raises(ValueError, match="`teleport` above 0, up to 1, but got"):
        TokenRankAnchors(teleport)
    with pytest.raises(ValueError, match="`teleport` above 0, up to 1, but got"):
        token_rank(torch.ones(1, 1), teleport)
