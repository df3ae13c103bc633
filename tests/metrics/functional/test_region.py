"""Region scores against scikit-learn, scikit-image and definitions read pixel by pixel."""

from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import variation_of_information as skimage_information
from sklearn.metrics import rand_score

from diffsegkit.metrics.functional import (
    Contingency,
    count_overlaps,
    probabilistic_rand_index,
    segmentation_covering,
    variation_of_information,
)
from diffsegkit.metrics.functional.region import information_distance, rand_index

SCORES = [segmentation_covering, probabilistic_rand_index, variation_of_information]


@st.composite
def pairs(draw, least=2):
    pixels = draw(st.integers(least, 40))
    ids = st.lists(st.integers(-3, 5), min_size=pixels, max_size=pixels)
    return tuple(torch.tensor(draw(ids), dtype=torch.int64)[None] for _ in range(2))


@given(pairs())
def test_rand_index_is_scikit_learns(maps):
    preds, target = maps
    expected = rand_score(target[0], preds[0])
    assert probabilistic_rand_index(preds, target) == pytest.approx(expected, abs=1e-14)


@given(pairs())
def test_information_is_scikit_images(maps):
    preds, target = maps
    expected = sum(skimage_information(target.numpy() + 3, preds.numpy() + 3))
    assert variation_of_information(preds, target) == pytest.approx(expected, abs=1e-12)


@given(pairs(least=1))
def test_covering_by_definition(maps):
    preds, target = (labels.numpy() for labels in maps)
    expected = 0
    for region in np.unique(target):
        inside = target == region
        ious = [
            (inside & (preds == segment)).sum() / (inside | (preds == segment)).sum()
            for segment in np.unique(preds)
        ]
        expected += inside.sum() * max(ious) / target.size
    assert segmentation_covering(*maps) == pytest.approx(expected, abs=1e-14)


def test_covering_is_of_the_ground_truth():
    halves, whole = torch.tensor([[0, 0, 1, 1]]), torch.zeros(1, 4).long()
    quarters = torch.tensor([[0, 1, 2, 3]])
    assert segmentation_covering(halves, whole) == 0.5
    assert segmentation_covering(torch.tensor([[0, 0, 0, 1]]), halves) == pytest.approx(
        0.5 * 2 / 3 + 0.5 * 1 / 2
    )
    assert segmentation_covering(halves, torch.tensor([[0, 0, 0, 1]])) == pytest.approx(
        0.75 * 2 / 3 + 0.25 * 1 / 2
    )
    assert variation_of_information(quarters, whole) == 2
    assert probabilistic_rand_index(quarters, whole) == 0


@pytest.mark.parametrize(("score", "best"), list(zip(SCORES, (1, 1, 0), strict=True)))
def test_equal_maps_agree_exactly(score, best, generator):
    labels = torch.randint(7, (30, 41), generator=generator)
    result = score(labels * 1000 - 10**12, labels)
    assert result == best
    assert result.dtype == torch.float64
    assert result.shape == ()
    assert score(labels[:1, :1], labels[:1, :1]) == best  # one pixel


@pytest.mark.parametrize("score", SCORES)
def test_several_annotators_are_averaged(score, generator):
    preds = torch.randint(4, (6, 7), generator=generator)
    targets = torch.randint(4, (3, 6, 7), generator=generator)
    alone = [score(preds, target) for target in targets]
    assert len({float(each) for each in alone}) == 3
    for form in (targets, list(targets), tuple(targets)):
        assert score(preds, form) == pytest.approx(float(sum(alone)) / 3, abs=1e-15)
    # An annotator without pixels says nothing.
    targets[1] = 9
    assert score(preds, targets, ignore_index=9) == pytest.approx(float(alone[0] + alone[2]) / 2)


@pytest.mark.parametrize("score", SCORES)
def test_ignored_pixels_are_as_good_as_absent(score, generator):
    preds = torch.randint(4, (50,), generator=generator)
    target = torch.randint(4, (50,), generator=generator)
    kept = target != 2
    expected = score(preds[kept], target[kept])
    assert score(preds, target, ignore_index=2) == expected
    assert score(preds, target) != expected
    assert score(preds, torch.full_like(target, 2), ignore_index=2).isnan()
    assert score(preds[:0], target[:0]).isnan()


def test_a_hundred_megapixels():
    # Four cells, the counts of a 100-megapixel image: exact where float64 pairs are not.
    a, b, c = 70_000_001, 29_999_998, 1
    table = Contingency(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([a, b, c]))
    total = a + b + c
    disagreeing = a * c + b * c  # pairs
    pairs = total * (total - 1) // 2
    assert rand_index(table) == (pairs - disagreeing) / pairs
    shared = [(a, a, a + c), (b, b + c, b), (c, b + c, a + c)]
    bits = sum(n / total * (log2(r / n) + log2(s / n)) for n, r, s in shared)
    assert information_distance(table) == pytest.approx(bits, rel=1e-12)


@given(st.lists(st.integers(1, 7 * 10**8), min_size=4, max_size=4))
def test_pairs_are_whole_numbers(counts):
    cells = [[0, 0], [0, 1], [1, 0], [1, 1]]
    table = Contingency.from_cells([[*c, n] for c, n in zip(cells, counts, strict=True)])
    a, b, c, d = counts
    agreeing = sum(n * (n - 1) // 2 for n in counts) + a * d + b * c
    assert rand_index(table) == agreeing / (sum(counts) * (sum(counts) - 1) // 2)


@given(pairs(least=0))
def test_contingency_cells(maps):
    preds, target = maps
    table = count_overlaps(preds, target)
    ids = [np.unique(labels, return_inverse=True)[1].ravel() for labels in (target, preds)]
    expected = np.unique(np.stack(ids, 1), axis=0, return_counts=True)
    assert table.cells() == [
        [*cell, n] for cell, n in zip(*(e.tolist() for e in expected), strict=True)
    ]
    back = Contingency.from_cells(table.cells())
    assert all(torch.equal(*columns) for columns in zip(table, back, strict=True))
    # Ids far apart, and more pairs of ids than pixels, are counted another way.
    assert count_overlaps(preds * 10**15, target * 10**15).cells() == table.cells()


def test_every_pixel_a_segment():
    labels = torch.arange(90_000).view(300, 300)
    assert segmentation_covering(labels, labels.flip(0)) == 1
    assert variation_of_information(labels, labels // 2) == 1


def test_wrong_arguments():
    labels = torch.zeros(2, 3).long()
    with pytest.raises(ValueError, match=r"shape of `target`, \(3, 3\), but got \(2, 3\)"):
        segmentation_covering(labels, torch.zeros(3, 3).long())
    with pytest.raises(
        ValueError, match=r"2 axes, or 3 for several annotators, but got shape \(2,"
    ):
        segmentation_covering(labels, torch.zeros(2, 2, 2, 3).long())
    with pytest.raises(ValueError, match="at least one map, but got none"):
        segmentation_covering(labels, [])
    with pytest.raises(TypeError, match="a tensor or a sequence of tensors, but got int"):
        segmentation_covering(labels, 3)
    with pytest.raises(TypeError, match="`target` to hold integers, but got torch.float32"):
        segmentation_covering(labels, torch.zeros(2, 3))
    with pytest.raises(TypeError, match="`preds` to hold integers, but got torch.float32"):
        segmentation_covering(torch.zeros(2, 3), labels)
    with pytest.raises(TypeError, match="`ignore_index` to be an integer or None, but got '0'"):
        segmentation_covering(labels, labels, ignore_index="0")
