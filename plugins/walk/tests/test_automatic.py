"""Thresholds by other implementations, and merging that needs none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit import AggregatedAttention, Segmenter
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit_walk import (
    AutomaticKLMerger,
    TokenRankAnchors,
    gap_threshold,
    otsu_threshold,
    presets,
    quantile_threshold,
)


def best_split(values):
    """Otsu by trying every cut, with NumPy's own variances."""
    ordered = np.sort(values)

    def within(cut):
        low, high = ordered[:cut], ordered[cut:]
        return len(low) * low.var() + len(high) * high.var()

    cut = min(range(1, len(ordered)), key=within)
    return (ordered[cut - 1] + ordered[cut]) / 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=3, max_size=30).filter(lambda v: len(set(v)) > 1))
def test_otsu_is_the_split_with_the_least_variance_within(values):
    values = np.array(values) + np.arange(len(values)) * 1e-3
    found = otsu_threshold(torch.from_numpy(values))
    ordered = np.sort(values)

    def within(threshold):
        low, high = ordered[ordered < threshold], ordered[ordered > threshold]
        return len(low) * low.var() + len(high) * high.var()

    assert within(found) == pytest.approx(within(best_split(values)), rel=1e-9, abs=1e-9)


def test_otsu_agrees_with_scikit_image(generator):
    filters = pytest.importorskip("skimage.filters")
    values = torch.cat([torch.randn(400, generator=generator).abs() + 0.2, torch.randn(900, generator=generator).abs() + 6])  # fmt: skip
    theirs = filters.threshold_otsu(values.numpy(), nbins=2000)
    ours = otsu_threshold(values)
    assert ((values < theirs) == (values < ours)).double().mean() > 0.995


def points(generator, centres, number=8, spread=0.05):
    at = torch.tensor(centres).repeat_interleave(number)
    return at + spread * torch.randn(len(at), generator=generator)


def test_the_gap_is_between_the_groups(generator):
    at = points(generator, [0.0, 1.0, 3.0])
    distances = (at[:, None] - at).abs()
    assert 0.2 < gap_threshold(distances) < 1.0
    # With no more than two segments allowed, the gap between one and two is all there is.
    assert 1.0 < gap_threshold(distances, most=2) < 3.0


@pytest.mark.parametrize("rule", [otsu_threshold, gap_threshold, quantile_threshold])
@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
def test_thresholds_follow_the_scale_of_the_distances(rule, scale, generator):
    at = points(generator, [0.0, 1.0, 3.0])
    distances = (at[:, None] - at).abs()
    given_to = distances if rule is gap_threshold else distances[distances > 0]
    assert rule(given_to * scale) == pytest.approx(scale * rule(given_to), rel=1e-5)


@pytest.mark.parametrize("rule", [otsu_threshold, gap_threshold, quantile_threshold])
def test_where_all_are_alike_nothing_is_far(rule):
    alike = torch.zeros(4, 4) if rule is gap_threshold else torch.full((6,), 0.3)
    assert rule(alike) == float("inf")
    assert rule(torch.zeros(1, 1) if rule is gap_threshold else torch.zeros(1)) == float("inf")


def two_blocks(sharpness, grid=(4, 6), generator=None):
    """Two halves that attend to themselves; the sharper, the larger the distances."""
    width = grid[1]
    side = (torch.arange(width) >= width // 2).long().expand(grid).flatten()
    logits = sharpness * (side[:, None] == side).float()
    if generator is not None:
        logits = logits + 0.2 * torch.randn(logits.shape, generator=generator)
    return AggregatedAttention(logits.softmax(1)[None], grid), side


@pytest.mark.parametrize("rule", ["otsu", "gap"])
@pytest.mark.parametrize("sharpness", [1.0, 3.0, 8.0])
def test_one_setting_for_all_sharpnesses(rule, sharpness, generator):
    """Distances between the halves grow from 0.2 to 8 nats; no fixed threshold suits all."""
    aggregated, side = two_blocks(sharpness, generator=generator)
    [proposals] = AutomaticKLMerger(rule, points_per_side=4)(aggregated)
    assert len(proposals) == 2
    labels = proposals.maps.argmax(0).flatten()
    assert torch.equal(labels, side) or torch.equal(labels, 1 - side)


def test_it_is_iterative_merging_at_the_threshold_found(generator):
    aggregated, _ = two_blocks(3.0, generator=generator)
    [found] = AutomaticKLMerger(points_per_side=4, rounds=2, factor=0.8, refine=True)(aggregated)
    [threshold] = {merging_round.threshold for merging_round in found.rounds}
    assert len(found.rounds) == 2
    [expected] = IterativeKLMerger([threshold] * 2, 4, refine=True)(aggregated)
    assert torch.equal(found.maps, expected.maps)
    [whole] = AutomaticKLMerger(points_per_side=4, factor=1)(aggregated)
    assert threshold == pytest.approx(0.8 * whole.rounds[0].threshold)


def test_a_batch_is_a_loop_and_each_image_has_its_threshold(generator):
    one, _ = two_blocks(1.0, generator=generator)
    other, _ = two_blocks(6.0, generator=generator)
    both = AggregatedAttention(torch.cat([one.probs, other.probs]), one.grid)
    merger = AutomaticKLMerger(anchors=TokenRankAnchors())
    together = merger(both)
    for image, own in zip((one, other), together, strict=True):
        [alone] = merger(image)
        torch.testing.assert_close(alone.maps, own.maps)
    assert together[0].rounds[0].threshold < together[1].rounds[0].threshold


@pytest.mark.parametrize("rule", ["otsu", "gap", "quantile"])
def test_all_maps_alike_and_one_location_are_one_segment(rule):
    even = AggregatedAttention(torch.full((1, 12, 12), 1 / 12), (3, 4))
    assert len(AutomaticKLMerger(rule)(even)[0]) == 1
    single = AggregatedAttention(torch.ones(1, 1, 1), (1, 1))
    assert len(AutomaticKLMerger(rule)(single)[0]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "elbow"}, "`rule` to be one of .* but got 'elbow'"),
        ({"factor": 0}, "`factor` to be above 0"),
        ({"quantile": 1}, "`quantile` between 0 and 1"),
        ({"rounds": 0}, "`rounds` to be at least 1"),
        ({"points_per_side": 0}, "`points_per_side` to be at least 1"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        AutomaticKLMerger(**options)


def test_the_preset_without_weights_runs():
    photo = torch.zeros(3, 60, 80)
    photo[0, :, 40:] = 0.8
    [segmentation] = Segmenter.from_preset(presets.AUTOMATIC_AFFINITY)(photo)
    assert segmentation.num_segments == 2
    assert Segmenter.from_preset("automatic-affinity").merger.rule == "otsu"
