"""The region metrics as sets of images with several annotators."""

from typing import get_args

import numpy as np
import pytest
import sklearn.metrics
import torch

from diffsegkit.metrics import (
    BoundaryFMeasure,
    ClusteringScore,
    ProbabilisticRandIndex,
    SegmentationCovering,
    SegmentCount,
    VariationOfInformation,
)
from diffsegkit.metrics.functional import (
    boundary_counts,
    probabilistic_rand_index,
    segmentation_covering,
    variation_of_information,
)
from diffsegkit.metrics.region import ClusteringName

FUNCTIONS = {
    SegmentationCovering: segmentation_covering,
    ProbabilisticRandIndex: probabilistic_rand_index,
    VariationOfInformation: variation_of_information,
}


def annotated(generator):
    """Two images of different sizes, with two and three annotators."""
    preds = [torch.randint(4, shape, generator=generator) for shape in ((5, 6), (8, 3))]
    targets = [
        torch.randint(3, (number, *pred.shape), generator=generator)
        for number, pred in zip((2, 3), preds, strict=True)
    ]
    return preds, targets


@pytest.mark.parametrize("metric", FUNCTIONS)
@pytest.mark.parametrize("ignore_index", [None, 1])
def test_mean_over_images_of_the_mean_over_annotators(metric, ignore_index, generator):
    preds, targets = annotated(generator)
    function = FUNCTIONS[metric]
    expected = [
        function(pred, target, ignore_index) for pred, target in zip(preds, targets, strict=True)
    ]
    found = metric(ignore_index=ignore_index)
    found.update(preds, [targets[0], list(targets[1])])
    torch.testing.assert_close(found.compute(), sum(expected) / 2, rtol=1e-15, atol=0)
    single = metric(ignore_index=ignore_index)
    single.update(preds[1], targets[1])
    assert single.compute() == expected[1]
    # An image with nothing to say is no image.
    single.update(preds[0], torch.full_like(targets[0], 1))
    assert (single.compute() == expected[1]) == (ignore_index == 1)


def test_a_batch_with_annotators(generator):
    preds = torch.randint(4, (3, 5, 6), generator=generator)
    targets = torch.randint(4, (3, 2, 5, 6), generator=generator)
    together, loop = SegmentationCovering(), SegmentationCovering()
    together.update(preds, targets)
    for pred, target in zip(preds, targets, strict=True):
        loop.update(pred, target)
    assert together.compute() == loop.compute()


def photo_sized():
    rng = np.random.default_rng(0)
    target = np.arange(321 * 481) // 7800
    preds = np.where(rng.random(target.size) < 0.3, rng.integers(0, 30, target.size), target // 2)
    return preds, target


@pytest.mark.parametrize("score", get_args(ClusteringName))
def test_scores_are_scikit_learns(score):
    reference = getattr(
        sklearn.metrics,
        {"fowlkes_mallows_index": "fowlkes_mallows_score"}.get(score, score),
    )
    rng = np.random.default_rng(0)
    small = rng.integers(0, 4, 60), rng.integers(0, 5, 60)
    for preds, target in (photo_sized(), small, (small[0], small[0]), (small[0] * 0, small[1])):
        metric = ClusteringScore(score)
        metric.update(torch.from_numpy(preds)[None], torch.from_numpy(target)[None])
        assert metric.compute() == pytest.approx(reference(target, preds), abs=1e-5)


def test_clustering_scores_of_annotators_and_ignored_pixels(generator):
    preds, targets = annotated(generator)
    metric = ClusteringScore(ignore_index=1)
    metric.update(preds, targets)
    expected = np.mean(
        [
            np.mean(
                [
                    sklearn.metrics.adjusted_rand_score(target[target != 1], pred[target != 1])
                    for target in maps
                ]
            )
            for pred, maps in zip(preds, targets, strict=True)
        ]
    )
    assert metric.compute() == pytest.approx(expected, abs=1e-12)


def test_an_unknown_score():
    with pytest.raises(ValueError, match="one of .*'homogeneity_score'.*, but got 'dunn_index'"):
        ClusteringScore("dunn_index")


def test_boundary_counts_are_summed(generator):
    preds, targets = annotated(generator)
    metric = BoundaryFMeasure(tolerance=0.2)
    metric.update(preds, targets)
    a, b = (boundary_counts(*image, 0.2) for image in zip(preds, targets, strict=True))
    precision = (a.matched_pred + b.matched_pred) / (a.total_pred + b.total_pred)
    recall = (a.matched_target + b.matched_target) / (a.total_target + b.total_target)
    assert metric.precision() == precision
    assert metric.recall() == recall
    assert metric.compute() == pytest.approx(2 * precision * recall / (precision + recall))
    assert precision != recall
    empty = BoundaryFMeasure()
    assert empty.precision().isnan()
    assert empty.recall().isnan()
    with pytest.raises(ValueError, match="`tolerance` to be a number, at least 0, but got -1"):
        BoundaryFMeasure(-1)


def test_segment_count():
    metric = SegmentCount()
    metric.update([torch.tensor([[5, 5, 9]]), torch.tensor([[-1], [10**15]])])
    metric.update(torch.tensor([3, 4, 5, 6]), torch.tensor([0, 0, 0, 0]))
    assert metric.compute() == 8 / 3
