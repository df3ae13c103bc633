"""The matched metrics as sets of images."""

import numpy as np
import pytest
import torch

from diffsegkit.metrics import (
    DatasetMatchedAccuracy,
    DatasetMatchedMeanIoU,
    ImageMatchedAccuracy,
    ImageMatchedMeanIoU,
)
from tests.metrics.functional.test_matching import diffcut, original


def random_set(highest, lowest=-1):
    generator = torch.Generator().manual_seed(0)
    preds = torch.randint(highest, (5, 6, 8), generator=generator)
    noise = torch.randint(3, preds.shape, generator=generator)
    return preds, (preds + noise) % (4 - lowest) + lowest


def by_hand(preds, target, count):
    sums, total = np.zeros((3, 4)), 0
    for pred, truth in zip(preds, target, strict=True):
        sums += np.array(count(pred.flatten(), truth.flatten(), 4))
        total += int((truth >= 0).sum())
    tp, fp, fn = sums
    with np.errstate(invalid="ignore"):
        return tp / (tp + fp + fn), tp.sum() / total, tp / (tp + fn)


@pytest.mark.parametrize("highest", [2, 4, 9])
def test_original_of_a_set(highest):
    preds, target = random_set(highest)
    ious, accuracy, recalls = by_hand(preds, target, lambda *maps: original(*maps)[2])
    iou, acc = ImageMatchedMeanIoU(4), ImageMatchedAccuracy(4)
    iou.update(preds, target)
    acc.update(preds, target)
    assert iou.compute() == pytest.approx(np.nanmean(ious), abs=1e-15)
    assert acc.compute() == pytest.approx(accuracy, abs=1e-15)
    np.testing.assert_allclose(iou.class_scores(), ious, rtol=1e-15)
    np.testing.assert_allclose(acc.class_scores(), recalls, rtol=1e-15)


def test_background_of_a_set():
    preds, target = random_set(9, lowest=0)
    ious, accuracy, _ = by_hand(preds, target, diffcut)
    iou = ImageMatchedMeanIoU(4, background=3)
    iou.update(preds, target)
    assert iou.compute() == pytest.approx(np.nanmean(ious), abs=1e-15)
    acc = ImageMatchedAccuracy(4, background=3)
    acc.update(preds, target)
    assert acc.compute() == pytest.approx(accuracy, abs=1e-15)


def test_images_count_by_their_pixels():
    metric = ImageMatchedAccuracy(2)
    metric.update(torch.zeros(1, 9).long(), torch.zeros(1, 9).long())
    metric.update(torch.zeros(1, 3).long(), torch.tensor([[0, 1, -1]]))
    assert metric.compute() == 10 / 11


def test_the_variants_differ_where_a_class_is_absent():
    preds, target = torch.tensor([[0, 0, 0, 1, 1]]), torch.zeros(1, 5).long()
    scores = {}
    for variant in ("original", "tie_free"):
        metric = ImageMatchedMeanIoU(2, variant=variant)
        metric.update(preds, target)
        scores[variant] = metric.compute()
    assert scores == {"original": 0.3, "tie_free": 0.6}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (ImageMatchedAccuracy, 1),
        (ImageMatchedMeanIoU, 1),
        # Class 0 has 3 pixels of cluster 0 and 3 of cluster 1; class 1 has 2 of cluster 1.
        (DatasetMatchedAccuracy, 5 / 8),
        (DatasetMatchedMeanIoU, (3 / 6 + 2 / 5) / 2),
    ],
)
def test_one_matching_for_the_set(metric, expected):
    # Each image alone is perfect, but cluster 1 changes its meaning.
    preds = [torch.tensor([[0, 0, 0, 1, 1]]), torch.tensor([[1, 1, 1]])]
    target = [torch.tensor([[0, 0, 0, 1, 1]]), torch.tensor([[0, 0, 0]])]
    metric = metric(2)
    metric.update(preds, target)
    assert metric.compute() == pytest.approx(expected)


def test_dataset_matching_by_hand():
    preds, target = random_set(4)
    iou, acc = DatasetMatchedMeanIoU(4), DatasetMatchedAccuracy(4)
    iou.update(preds, target)
    acc.update(preds, target)
    _, _, (tp, fp, fn) = original(preds.flatten(), target.flatten(), 4)
    np.testing.assert_allclose(iou.class_scores(), tp / (tp + fp + fn), rtol=1e-15)
    assert iou.compute() == pytest.approx(np.mean(tp / (tp + fp + fn)), abs=1e-15)
    assert acc.compute() == pytest.approx(tp.sum() / int((target >= 0).sum()), abs=1e-15)


def test_more_clusters_than_classes():
    preds = torch.tensor([[0, 0, 5, 5, 5, 3]])
    target = torch.tensor([[0, 0, 0, 1, 1, 1]])
    metric = DatasetMatchedAccuracy(2, num_clusters=6)
    metric.update(preds, target)
    assert metric.compute() == 4 / 6
    assert metric.confusion.shape == (2, 6)


@pytest.mark.parametrize("clusters", [None, 2, 6])
def test_a_cluster_too_many(clusters):
    number = clusters or 3
    metric = DatasetMatchedMeanIoU(3, num_clusters=clusters)
    labels = torch.tensor([[0, number]])
    message = f"cluster ids below {number}, the number of clusters, but got {number}"
    with pytest.raises(ValueError, match=message):
        metric.update(labels, torch.zeros(1, 2).long())
    with pytest.raises(ValueError, match=message):
        metric.update(labels, torch.tensor([[0, -1]]))
    # The journal can come from an image-matched metric, which allows any id.
    statistics = ImageMatchedMeanIoU(3).measure(labels, torch.zeros(1, 2).long())
    with pytest.raises(ValueError, match=message):
        metric.add(statistics)
    assert not metric.confusion.any()
    metric.update(labels.clamp_max(number - 1), torch.zeros(1, 2).long())
    assert metric.confusion.sum() == 2


def test_statistics_are_sparse():
    metric = ImageMatchedMeanIoU(3)
    preds, target = torch.tensor([[0, 6, 6]]), torch.tensor([[1, 2, 2]])
    assert metric.measure(preds, target) == {"shape": [3, 7], "cells": [[1, 0, 1], [2, 6, 2]]}
    assert metric.measure(preds, torch.full_like(preds, -1)) == {"shape": [3, 7], "cells": []}
    with pytest.raises(ValueError, match="`statistics` to have 4 classes, but got 3"):
        ImageMatchedMeanIoU(4).add(metric.measure(preds, target))


@pytest.mark.parametrize("metric", [ImageMatchedMeanIoU, ImageMatchedAccuracy])
def test_wrong_options(metric):
    with pytest.raises(ValueError, match="`num_classes` to be an integer, at least 1, but got 0"):
        metric(0)
    with pytest.raises(ValueError, match="`variant` to be one of .* but got 'best'"):
        metric(3, variant="best")
    with pytest.raises(TypeError, match="`ignore_index` to be an integer or None, but got 0.5"):
        metric(3, ignore_index=0.5)
    with pytest.raises(ValueError, match="`background` to be a class below 3, but got 3"):
        metric(3, background=3)
    with pytest.raises(ValueError, match="`num_clusters` to be an integer, at least 1, but got 0"):
        DatasetMatchedMeanIoU(3, num_clusters=0)
