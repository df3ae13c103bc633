"""Matching against the originals' formulas, read straightforwardly, and against brute force."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from diffsegkit.metrics.functional import (
    class_iou,
    match_segments,
    matched_counts,
    mean_iou,
    overlap_histogram,
    pixel_accuracy,
)


@st.composite
def label_maps(draw, max_classes=5, max_id=7, lowest=-1):
    """Segments with gaps in their ids, classes of which some are absent, and ignored pixels."""
    num_classes = draw(st.integers(1, max_classes))
    pixels = draw(st.integers(0, 30))
    ids = draw(st.lists(st.integers(0, max_id), min_size=1, max_size=4))
    preds = draw(st.lists(st.sampled_from(ids), min_size=pixels, max_size=pixels))
    target = draw(st.lists(st.integers(lowest, num_classes - 1), min_size=pixels, max_size=pixels))
    return (
        torch.tensor(preds, dtype=torch.int64),
        torch.tensor(target, dtype=torch.int64),
        num_classes,
    )


def original(preds, target, num_classes):
    """google/diffseg, ``hungarian_matching`` of one image, as the paper's code states it."""
    preds, target = preds.numpy(), target.numpy()
    columns = max(num_classes, preds.max() + 1) if preds.size else num_classes
    histogram = np.zeros((num_classes, columns), dtype=int)
    for row, column in zip(target, preds, strict=True):
        if 0 <= row < num_classes:
            histogram[row, column] += 1
    _, column = linear_sum_assignment(histogram, maximize=True)
    tp = np.array([histogram[c, column[c]] for c in range(num_classes)])
    fn = np.array([histogram[c].sum() for c in range(num_classes)]) - tp
    fp = np.array([histogram[:, column[c]].sum() for c in range(num_classes)]) - tp
    return histogram, column, (tp, fp, fn)


def assert_counts(found, expected):
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        assert ours.tolist() == theirs.tolist(), name


@given(label_maps())
def test_original(maps):
    preds, target, num_classes = maps
    expected, columns, counts = original(preds, target, num_classes)
    histogram = overlap_histogram(preds, target, num_classes)
    assert histogram.tolist() == expected.tolist()
    assert match_segments(histogram).tolist() == columns.tolist()
    assert_counts(matched_counts(histogram), counts)


def test_original_of_a_set():
    generator = torch.Generator().manual_seed(0)
    sums, total = np.zeros((3, 27)), 0
    found, ours = [torch.zeros(27, dtype=torch.int64)] * 3, 0
    for highest in (3, 26, 27, 40):
        preds = torch.randint(highest, (20, 30), generator=generator).flatten() ** 2 // highest
        target = torch.randint(-1, 27, (20, 30), generator=generator).flatten()
        histogram, _, counts = original(preds, target, 27)
        sums, total = sums + np.array(counts), total + histogram.sum()
        histogram = overlap_histogram(preds, target, 27)
        found = [a + b for a, b in zip(found, matched_counts(histogram), strict=True)]
        ours += int(histogram.sum())
    tp, fp, fn = sums
    assert mean_iou(*found) == pytest.approx(np.nanmean(tp / (tp + fp + fn)), abs=1e-15)
    assert pixel_accuracy(found[0], ours) == pytest.approx(tp.sum() / total, abs=1e-15)


@pytest.mark.parametrize("variant", ["original", "tie_free"])
@given(maps=label_maps(max_classes=4, max_id=4))
def test_the_overlap_is_the_largest_there_is(variant, maps):
    histogram = overlap_histogram(*maps)
    matrix = histogram.numpy()
    rows = np.arange(len(matrix))
    best = max(
        matrix[rows, list(columns)].sum()
        for columns in permutations(range(matrix.shape[1]), len(matrix))
    )
    assert matched_counts(histogram, variant).tp.sum() == best


@given(label_maps(), st.randoms(use_true_random=False))
def test_tie_free_does_not_depend_on_ids(maps, random):
    preds, target, num_classes = maps
    expected = matched_counts(overlap_histogram(preds, target, num_classes), "tie_free")
    names = torch.tensor(random.sample(range(12), 8))
    renamed = overlap_histogram(names[preds], target, num_classes)
    assert_counts(matched_counts(renamed, "tie_free"), expected)
    # Nor on classes that are absent.
    more = matched_counts(overlap_histogram(preds, target, num_classes + 2), "tie_free")
    assert_counts(more, [torch.cat([each, torch.zeros(2).long()]) for each in expected])


@given(label_maps())
def test_tie_free_matches_only_what_overlaps(maps):
    histogram = overlap_histogram(*maps)
    matches = match_segments(histogram, "tie_free")
    matched = matches >= 0
    assert len(set(matches[matched].tolist())) == int(matched.sum())
    assert (histogram[matched, matches[matched]] > 0).all()
    counts = matched_counts(histogram, "tie_free")
    assert not counts.tp[~matched].any()
    assert not counts.fp[~matched].any()


def test_the_original_depends_on_ids():
    # Two segments share class 0; which absent class is charged for the other depends on ids.
    histogram = torch.tensor([[5, 3, 0], [0, 0, 0], [0, 0, 0]])
    assert matched_counts(histogram).fp.sum() == 3
    assert matched_counts(histogram, "tie_free").fp.sum() == 0
    assert class_iou(*matched_counts(histogram)).isnan().sum() == 1
    assert class_iou(*matched_counts(histogram, "tie_free")).isnan().sum() == 2
    assert mean_iou(*matched_counts(histogram)) == pytest.approx(5 / 8 / 2)
    assert mean_iou(*matched_counts(histogram, "tie_free")) == pytest.approx(5 / 8)


@pytest.mark.parametrize("variant", ["original", "tie_free"])
def test_more_segments_than_classes(variant):
    histogram = torch.tensor([[4, 9, 3], [2, 1, 5]])
    counts = matched_counts(histogram, variant)
    assert match_segments(histogram, variant).tolist() == [1, 2]
    assert_counts(counts, torch.tensor([[9, 5], [1, 3], [7, 3]]))


@pytest.mark.parametrize("variant", ["original", "tie_free"])
def test_fewer_segments_than_classes(variant):
    histogram = overlap_histogram(torch.zeros(6).long(), torch.tensor([2, 2, 2, 1, 1, 0]), 3)
    counts = matched_counts(histogram, variant)
    assert_counts(counts, torch.tensor([[0, 0, 3], [0, 0, 3], [1, 2, 0]]))
    narrow = matched_counts(histogram[:, :1], variant)
    assert_counts(narrow, counts)


@pytest.mark.parametrize("variant", ["original", "tie_free"])
@pytest.mark.parametrize("target", [torch.zeros(0, 5).long(), torch.full((2, 5), -1)])
def test_nothing_to_count(variant, target):
    histogram = overlap_histogram(torch.zeros_like(target), target, 3)
    assert histogram.shape == (3, 3)
    counts = matched_counts(histogram, variant, background=2)
    assert_counts(counts, torch.zeros(3, 3).long())
    assert mean_iou(*counts).isnan()
    assert pixel_accuracy(counts.tp, 0).isnan()


def test_the_histogram_is_as_wide_as_the_ids_of_the_whole_image():
    preds, target = torch.tensor([0, 5, 1]), torch.tensor([0, -1, 1])
    assert overlap_histogram(preds, target, 2).shape == (2, 6)
    assert overlap_histogram(preds, target, 9).shape == (9, 9)
    assert overlap_histogram(preds, target, 2, num_segments=8).shape == (2, 8)
    assert overlap_histogram(preds, target, 9, num_segments=8).shape == (9, 9)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_all_integers_will_do(dtype):
    preds, target = torch.tensor([[0, 200]]), torch.tensor([[255, 26]])
    found = overlap_histogram(preds.to(dtype), target.to(torch.uint8), 27, ignore_index=255)
    assert found.dtype == torch.int64
    assert found.nonzero().tolist() == [[26, 200]]


def diffcut(preds, target, num_classes):
    """PaulCouairon/DiffCut, eval_diffcut.py: background is the last class, −1 until matched."""
    preds, target = preds.numpy().copy(), target.numpy().copy()
    last = num_classes - 1
    foreground = np.where(target == last, -1, target)
    histogram, columns, _ = original(
        torch.from_numpy(preds), torch.from_numpy(foreground), num_classes - 1
    )
    matched = histogram[:, columns]
    kept = {columns[c] for c in range(last) if matched[c].max() > 0}
    background = set(np.unique(preds).tolist()) - kept
    new = preds.max() + 1
    for segment in background:
        preds[preds == segment] = new
    return original(torch.from_numpy(preds), torch.from_numpy(target), num_classes)[2]


@given(label_maps(lowest=0))
def test_background_is_diffcuts(maps):
    preds, target, num_classes = maps
    assume(num_classes > 1 and preds.numel())
    histogram = overlap_histogram(preds, target, num_classes)
    found = matched_counts(histogram, background=num_classes - 1)
    assert_counts(found, diffcut(preds, target, num_classes))


def test_background_is_diffcuts_with_many_classes():
    generator = torch.Generator().manual_seed(0)
    for segments in (3, 15, 20, 21, 22, 30):
        preds = torch.randint(segments, (300,), generator=generator)
        target = (torch.randint(60, (300,), generator=generator) - 5).clamp(0, 20)
        target[target < 20] = target[target < 20] // 4
        histogram = overlap_histogram(preds, target, 21)
        assert_counts(matched_counts(histogram, background=20), diffcut(preds, target, 21))


def test_background_takes_many_segments():
    # Segment 0 is an object; 1, 2 and 3 are background, 3 with a few pixels of the object.
    histogram = torch.tensor([[9, 0, 0, 2], [1, 7, 8, 5]])
    for variant in ("original", "tie_free"):
        assert_counts(
            matched_counts(histogram, variant, background=1),
            torch.tensor([[9, 20], [1, 2], [2, 1]]),
        )
        swapped = matched_counts(histogram.flip(0), variant, background=0)
        assert_counts(swapped, torch.tensor([[20, 9], [2, 1], [1, 2]]))


@given(label_maps(), st.randoms(use_true_random=False), st.data())
def test_tie_free_background_does_not_depend_on_ids(maps, random, data):
    preds, target, num_classes = maps
    background = data.draw(st.integers(0, num_classes - 1))
    names = torch.tensor(random.sample(range(12), 8))
    expected, renamed = (
        matched_counts(overlap_histogram(ids, target, num_classes), "tie_free", background)
        for ids in (preds, names[preds])
    )
    assert_counts(renamed, expected)
    assert int(expected.tp.sum() + expected.fn.sum()) == int((target >= 0).sum())


def test_tie_free_background_tells_equal_segments_apart():
    # To class 1 segments 0 and 2 are alike; only the background tells them apart.
    histogram = torch.tensor([[8, 1, 0], [1, 0, 1]])
    found = matched_counts(histogram, "tie_free", background=0)
    for order in permutations(range(3)):
        assert_counts(matched_counts(histogram[:, list(order)], "tie_free", 0), found)


def test_only_background_has_one_class():
    found = matched_counts(torch.tensor([[3, 4, 0]]), background=0)
    assert_counts(found, torch.tensor([[7], [0], [0]]))


WRONG = [
    ({"preds": torch.tensor([0.0, 1.0])}, TypeError, "`preds` to hold integers, but got torch.fl"),
    (
        {"preds": torch.tensor([True, False])},
        TypeError,
        "`preds` to hold integers, but got torch.b",
    ),
    ({"preds": [0, 1]}, TypeError, "`preds` to be a tensor of integers, but got list"),
    ({"preds": torch.tensor([0, -1])}, ValueError, "`preds` to hold ids from 0, but got -1"),
    (
        {"preds": torch.tensor([0])},
        ValueError,
        r"`preds` to have the shape of `target`, \(2,\), but",
    ),
    (
        {"target": torch.tensor([0j, 1])},
        TypeError,
        "`target` to hold integers, but got torch.compl",
    ),
    (
        {"target": torch.tensor([0, 2])},
        ValueError,
        "classes 0 to 1 or `ignore_index` -1, but got 2",
    ),
    ({"target": torch.tensor([0, -2])}, ValueError, "classes 0 to 1 or .* but got -2"),
    ({"target": torch.tensor([0, -1]), "ignore_index": None}, ValueError, "0 to 1, but got -1"),
    ({"target": torch.tensor([0, -1]), "ignore_index": 255}, ValueError, "255, but got -1"),
    ({"num_classes": 0}, ValueError, "`num_classes` to be an integer, at least 1, but got 0"),
    ({"num_classes": 2.0}, ValueError, "`num_classes` to be an integer, at least 1, but got 2.0"),
    ({"ignore_index": 1.5}, TypeError, "`ignore_index` to be an integer or None, but got 1.5"),
    ({"num_segments": 1}, ValueError, "`preds` to hold ids below 1, .* but got 1"),
]


@pytest.mark.parametrize(("changes", "error", "message"), WRONG)
def test_wrong_label_maps(changes, error, message):
    right = {"preds": torch.tensor([0, 1]), "target": torch.tensor([0, -1]), "num_classes": 2}
    overlap_histogram(**right)
    with pytest.raises(error, match=message):
        overlap_histogram(**right | changes)


def test_wrong_histograms():
    histogram = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="`variant` to be one of .* but got 'greedy'"):
        match_segments(histogram, "greedy")
    with pytest.raises(TypeError, match="`histogram` to hold integers"):
        match_segments(histogram / 2)
    with pytest.raises(ValueError, match=r"shape \(C, K\), but got \(2,\)"):
        match_segments(histogram[0])
    with pytest.raises(ValueError, match="counts of pixels, but got -2"):
        match_segments(-histogram)
    with pytest.raises(ValueError, match="`background` to be a class below 1, but got 1"):
        matched_counts(histogram, background=1)
