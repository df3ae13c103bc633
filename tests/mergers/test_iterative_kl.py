"""Merging against the algorithm written out in NumPy float64, map by map."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffsegkit import AggregatedAttention
from diffsegkit.errors import MergingError
from diffsegkit.mergers import GridAnchors, IterativeKLMerger
from tests.synthetic import region_attention


def distance(x, y):
    return ((x - y) * (np.log(x) - np.log(y))).sum() / 2


def naive(maps, anchors, thresholds, overlap=True):
    """The paper's section 3.3 and the original's order of steps."""
    proposals = []
    for anchor in anchors:
        close = [
            candidate for candidate in maps if distance(maps[anchor], candidate) < thresholds[0]
        ]
        proposals.append(np.mean(close, axis=0))
    for threshold in thresholds[1:]:
        taken, merged = set(), []
        for index, proposal in enumerate(proposals):
            if index in taken:
                continue
            mine = [j for j, other in enumerate(proposals) if distance(proposal, other) < threshold]
            if not overlap:
                mine = [j for j in mine if j not in taken]
            taken.update(mine)
            merged.append(np.mean([proposals[j] for j in mine], axis=0))
        proposals = merged
    return np.stack(proposals)


grids = st.sampled_from([(4, 4), (3, 7), (1, 9), (6, 5), (1, 1)])
threshold_lists = st.lists(st.floats(0.02, 1.5), min_size=1, max_size=4)


@given(grids, threshold_lists, st.booleans(), st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_matches_the_naive_computation(grid, thresholds, overlap, seed, regions):
    generator = torch.Generator().manual_seed(seed)
    aggregated = region_attention(grid, generator, regions=regions)
    maps = aggregated.probs[0].double().numpy()
    anchors = GridAnchors()(aggregated, 4).tolist()
    close_calls = [abs(distance(x, y) - t) for x in maps[anchors] for y in maps for t in thresholds]
    assume(min(close_calls) > 1e-4)  # where rounding does not decide
    merger = IterativeKLMerger(thresholds, points_per_side=4, overlap=overlap)
    [proposals] = merger(aggregated)
    expected = naive(maps, anchors, thresholds, overlap)
    assert len(proposals.rounds) == len(thresholds)
    if len(proposals) == len(expected):
        found = proposals.maps.flatten(1).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    else:
        # Only a pair of proposals at the very threshold may explain another number.
        assert min(
            abs(distance(x, y) - t)
            for t in thresholds[1:]
            for x in expected
            for y in expected
        ) < 1e-3  # fmt: skip


def test_a_chain_by_hand():
    """Three anchors a - b - c, where neighbours are close and the ends are not."""
    a, b, c = ([0.6, 0.3, 0.1], [0.4, 0.4, 0.2], [0.2, 0.4, 0.4])
    maps = np.array([a, b, c])
    between = [distance(maps[0], maps[1]), distance(maps[1], maps[2]), distance(maps[0], maps[2])]
    assert max(between[:2]) < 0.15 < between[2]
    aggregated = AggregatedAttention(torch.tensor([[a, b, c]]), (1, 3))

    def result(**options):
        # Round 0 with so small a threshold keeps the anchors themselves.
        merger = IterativeKLMerger((1e-4, 0.15), points_per_side=3, **options)
        return merger(aggregated)[0]

    overlapping = result()
    # a takes a and b; b is taken; c takes b again and c.
    assert overlapping.rounds[1].members.tolist() == [[True, True, False], [False, True, True]]
    assert overlapping.rounds[1].seeds.tolist() == [0, 2]
    np.testing.assert_allclose(
        overlapping.maps[:, 0].numpy(),
        [(maps[0] + maps[1]) / 2, (maps[1] + maps[2]) / 2],
        rtol=1e-6,
    )
    exclusive = result(overlap=False)
    assert exclusive.rounds[1].members.tolist() == [[True, True, False], [False, False, True]]


def test_the_record_explains_the_proposals(generator):
    aggregated = region_attention((6, 7), generator, regions=4)
    [proposals] = IterativeKLMerger((0.3, 0.5, 0.6), points_per_side=5)(aggregated)
    candidates = aggregated.probs[0]
    for merging_round, threshold in zip(proposals.rounds, (0.3, 0.5, 0.6), strict=True):
        assert merging_round.threshold == threshold
        members = merging_round.members.float()
        assert members.shape == (merging_round.count, len(candidates))
        assert merging_round.members[torch.arange(merging_round.count), merging_round.seeds].all()
        candidates = members @ candidates / members.sum(1, keepdim=True)
    torch.testing.assert_close(proposals.maps.flatten(1), candidates)


def test_one_threshold_is_enough(generator):
    aggregated = region_attention((4, 4), generator)
    for thresholds in (0.5, (0.5,), 1):
        [proposals] = IterativeKLMerger(thresholds, points_per_side=2)(aggregated)
        assert len(proposals.rounds) == 1


@pytest.mark.parametrize("grid", [(1, 1), (5, 8)])
def test_maps_all_alike_are_one_segment(grid):
    locations = grid[0] * grid[1]
    same = torch.full((2, locations, locations), 1 / locations)
    for proposals in IterativeKLMerger()(AggregatedAttention(same, grid)):
        assert len(proposals) == 1


def test_an_anchor_always_has_itself():
    """Even with a threshold below rounding error."""
    sharp = torch.softmax(
        torch.randn(1, 400, 400, generator=torch.Generator().manual_seed(0)) * 4, -1
    )
    [proposals] = IterativeKLMerger(1e-30, points_per_side=5)(AggregatedAttention(sharp, (20, 20)))
    assert proposals.rounds[0].members.sum(1).tolist() == [1] * 25


def test_a_batch_is_a_loop(generator):
    aggregated = region_attention((6, 5), generator, batch=4, regions=4)
    for refine in (False, True):
        merger = IterativeKLMerger((0.4, 0.6), refine=refine)
        for image, proposals in enumerate(merger(aggregated)):
            [alone] = merger(aggregated.select(slice(image, image + 1)))
            assert torch.equal(proposals.maps, alone.maps)


def test_refinement_gives_means_of_disjoint_clusters(generator):
    aggregated = region_attention((6, 6), generator, regions=3, contrast=4)
    [plain] = IterativeKLMerger((0.4, 0.6))(aggregated)
    [refined] = IterativeKLMerger((0.4, 0.6), refine=True)(aggregated)
    assert len(refined) == len(plain)
    maps, centres = aggregated.probs[0], refined.maps.flatten(1)
    nearest = torch.cdist(maps, centres).argmin(1)
    for cluster in range(len(centres)):
        torch.testing.assert_close(centres[cluster], maps[nearest == cluster].mean(0))


def test_float16_drops_maps_with_an_entry_below_its_range():
    maps = torch.full((1, 4, 4), 0.25)
    maps[0, 1] = torch.tensor([0.5, 0.5 - 1e-8, 1e-8, 0.0])
    aggregated = AggregatedAttention(maps, (2, 2))
    [full] = IterativeKLMerger(0.1, points_per_side=2)(aggregated)
    [half] = IterativeKLMerger(0.1, points_per_side=2, anchor_precision="float16")(aggregated)
    assert full.rounds[0].seeds.tolist() == [0, 1, 2, 3]
    assert half.rounds[0].seeds.tolist() == [0, 2, 3]
    assert half.rounds[0].members[:, 1].tolist() == [False] * 3


def test_float16_with_no_anchor_left_says_so():
    sharp = AggregatedAttention(torch.eye(4)[None], (2, 2))
    with pytest.raises(MergingError, match='None of the 4 anchors.*anchor_precision="float32"'):
        IterativeKLMerger(anchor_precision="float16")(sharp)
    assert len(IterativeKLMerger()(sharp)[0]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresholds": ()}, "one or more positive distances"),
        ({"thresholds": (1.0, 0.0)}, "positive distances"),
        ({"thresholds": (1.0, float("nan"))}, "positive distances"),
        ({"thresholds": -1}, "positive distances"),
        ({"points_per_side": 0}, "at least 1, but got 0"),
        ({"anchor_precision": "bfloat16"}, "'float32' or 'float16'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        IterativeKLMerger(**options)
