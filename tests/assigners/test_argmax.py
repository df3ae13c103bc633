"""Assignment against whole upsampled maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from diffsegkit import Proposals
from diffsegkit.assigners import ArgmaxAssigner


def random_proposals(number, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(number, grid[0] * grid[1], generator=generator)
    return Proposals((maps / maps.sum(1, keepdim=True)).reshape(number, *grid))


def whole(proposals, size):
    """What the original does: every map at pixel size, then the argmax."""
    maps = proposals.maps[None].double()
    return functional.interpolate(maps, size=size, mode="bilinear")[0]


sides = st.integers(1, 40)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), sides, sides, st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_matches_whole_maps(number, height, width, rows, columns, seed):
    proposals = random_proposals(number, (height, width), seed)
    [labels] = ArgmaxAssigner()([proposals], (rows, columns))
    values = whole(proposals, (rows, columns))
    chosen = values.gather(0, labels[None])[0]
    # The label's value is the largest, up to float32 rounding at ties.
    assert (values.max(0).values - chosen).max() < 1e-6
    assert labels.dtype == torch.int64


def test_images_may_differ_in_proposals():
    first, second = random_proposals(3, (4, 5)), random_proposals(6, (2, 2), seed=1)
    together = ArgmaxAssigner()([first, second], (9, 8))
    assert torch.equal(together[0], ArgmaxAssigner()([first], (9, 8))[0])
    assert torch.equal(together[1], ArgmaxAssigner()([second], (9, 8))[0])


def test_permuting_proposals_permutes_labels():
    proposals = random_proposals(5, (6, 6))
    order = torch.tensor([3, 0, 4, 1, 2])
    labels = ArgmaxAssigner()([proposals], (30, 30))
    permuted = ArgmaxAssigner()([proposals.keep(order)], (30, 30))
    assert torch.equal(order[permuted], labels)


def test_the_first_wins_a_tie():
    same = Proposals(torch.full((3, 2, 2), 0.25))
    assert ArgmaxAssigner()([same], (4, 4)).unique().tolist() == [0]


def test_half_pixel_centres_by_hand():
    """Two cells to six pixels: the middle lies between pixels 2 and 3."""
    proposals = Proposals(torch.tensor([[[0.7, 0.3]], [[0.3, 0.7]]]))
    assert ArgmaxAssigner()([proposals], (1, 6)).tolist() == [[[0, 0, 0, 1, 1, 1]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision(dtype):
    proposals = random_proposals(4, (6, 6))
    labels = ArgmaxAssigner()([Proposals(proposals.maps.to(dtype))], (24, 24))
    agreement = (labels == ArgmaxAssigner()([proposals], (24, 24))).float().mean()
    assert agreement > 0.95
    assert np.isfinite(float(agreement))


@pytest.mark.parametrize("size", [(0, 4), (4,), (-1, 2)])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match=r"\(height, width\) > 0"):
        ArgmaxAssigner()([random_proposals(1, (2, 2))], size)
