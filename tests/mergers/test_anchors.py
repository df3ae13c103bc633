"""Anchor samplers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsegkit import AggregatedAttention, validation
from diffsegkit.mergers import AnchorSampler, GridAnchors, IterativeKLMerger, RandomAnchors
from diffsegkit.mergers.anchors.grid import evenly_spaced
from tests.synthetic import region_attention


def on(grid):
    with validation(False):
        return AggregatedAttention(torch.zeros(1, grid[0] * grid[1], 1), grid)


@given(st.integers(2, 64))
def test_the_originals_formula_on_64(points):
    step = 63 // (points - 1)
    start = (63 - step * (points - 1)) // 2
    stop = start + step * (points - 1)
    assert evenly_spaced(64, points) == [int(x) for x in np.linspace(start, stop, points)]


@given(st.integers(1, 200), st.integers(1, 300))
def test_any_axis_has_distinct_rising_cells(side, points):
    cells = evenly_spaced(side, points)
    assert len(cells) == min(side, points)
    assert cells == sorted(set(cells))
    assert cells[0] >= 0
    assert cells[-1] < side


def test_sixteen_on_the_papers_grid():
    anchors = GridAnchors()(on((64, 64)), 16)
    axis = torch.arange(1, 62, 4)
    assert torch.equal(anchors, (axis[:, None] * 64 + axis).flatten())


def test_each_axis_of_a_non_square_grid_is_its_own():
    anchors = GridAnchors()(on((3, 40)), 16)
    assert len(anchors) == 3 * 16
    assert anchors[:16].max() < 40
    assert GridAnchors()(on((5, 9)), 1).tolist() == [2 * 9 + 4]


def test_random_anchors_are_distinct_repeatable_and_seeded():
    first = RandomAnchors(seed=3)(on((9, 11)), 5)
    assert torch.equal(first, RandomAnchors(seed=3)(on((9, 11)), 5))
    assert not torch.equal(first, RandomAnchors(seed=4)(on((9, 11)), 5))
    assert len(first.unique()) == 25
    assert len(RandomAnchors()(on((2, 3)), 16).unique()) == 6


class EachItsOwn(AnchorSampler):
    """Another anchor for every image of the batch."""

    def forward(self, aggregated, points_per_side):
        return torch.arange(aggregated.batch_size)[:, None] * points_per_side


def test_a_sampler_may_choose_per_image(generator):
    aggregated = region_attention((4, 4), generator, batch=3)
    merger = IterativeKLMerger(1e-3, points_per_side=2, anchors=EachItsOwn())
    seeds = [proposals.rounds[0].seeds.tolist() for proposals in merger(aggregated)]
    assert seeds == [[0], [2], [4]]


class MoreForLater(AnchorSampler):
    """As many anchors as the image's place in the batch."""

    def forward(self, aggregated, points_per_side):
        return [torch.arange(image + 1) for image in range(aggregated.batch_size)]


def test_images_may_differ_in_their_number_of_anchors(generator):
    aggregated = region_attention((4, 4), generator, batch=3)
    proposals = IterativeKLMerger(1e-3, anchors=MoreForLater())(aggregated)
    assert [own.rounds[0].count for own in proposals] == [1, 2, 3]


@pytest.mark.parametrize("anchors", [None, GridAnchors(), RandomAnchors(1)])
def test_mergers_take_any_sampler(anchors, generator):
    proposals = IterativeKLMerger(anchors=anchors)(region_attention((5, 6), generator))
    assert proposals[0].grid == (5, 6)
