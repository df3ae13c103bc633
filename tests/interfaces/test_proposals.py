"""Scores in place of maps, for mergers that cut the grid into parts."""

import pytest
import torch

from diffsegkit import Proposals, close_gaps, validation
from diffsegkit.assigners import ArgmaxAssigner


def test_parts_come_back_from_the_assigner(generator):
    parts = torch.randint(3, 9, (5, 7), generator=generator)
    parts[0, 0] = 40
    proposals = Proposals.of_parts(parts)
    ids = parts.unique()
    assert len(proposals) == len(ids)
    torch.testing.assert_close(proposals.maps.sum((1, 2)), torch.ones(len(ids)))
    [labels] = ArgmaxAssigner()([proposals], (5, 7))
    assert torch.equal(ids[labels], parts)


def test_borders_lie_halfway_between_cells_whatever_the_sizes():
    """As distributions, the small part would be sixteen times as high, and take its neighbours."""
    parts = torch.zeros(1, 17, dtype=torch.int64)
    parts[0, 8] = 1
    proposals = Proposals.of_parts(parts)
    [labels] = ArgmaxAssigner()([proposals], (1, 170))
    assert labels[0].nonzero().flatten().tolist() == list(range(80, 90))
    [by_maps] = ArgmaxAssigner()([Proposals(proposals.maps)], (1, 170))
    assert int(by_maps.sum()) == 18


def test_what_is_compared_and_kept():
    maps = torch.tensor([[[0.5, 0.5]], [[0.1, 0.9]], [[1.0, 0.0]]])
    scores = torch.tensor([[[0.0, 1.0]], [[-3.0, -2.0]], [[5.0, 0.0]]])
    proposals = Proposals(maps, scores=scores)
    assert proposals.compared is scores
    assert Proposals(maps).compared is maps
    [labels] = ArgmaxAssigner()([proposals], (1, 2))
    assert labels.tolist() == [[2, 0]]
    closed, kept = close_gaps(labels, proposals)
    assert closed.tolist() == [[1, 0]]
    assert torch.equal(kept.scores, scores[[0, 2]])
    assert torch.equal(kept.maps, maps[[0, 2]])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            torch.ones(2, 1, 2),
            r"of the maps' shape \(1, 1, 2\), but got torch.float32 of shape \(2",
        ),
        (torch.ones(1, 1, 2).long(), "but got torch.int64"),
        (torch.tensor([[[1.0, float("nan")]]]), "to be finite, but got NaN or infinity"),
    ],
)
def test_wrong_scores(scores, message):
    maps = torch.tensor([[[0.5, 0.5]]])
    with pytest.raises(ValueError, match=message):
        Proposals(maps, scores=scores)
    with validation(False):
        Proposals(maps, scores=scores)
