"""Boundaries against scikit-image's thinning and networkx's matching, and by hand."""

from math import hypot

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.morphology import thin

from diffsegkit.metrics.functional import boundary_counts, boundary_f_measure, label_boundaries


def seg2bdry(labels):
    """The BSDS benchmark's marks before thinning, pixel by pixel."""
    height, width = labels.shape
    marked = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            block = labels[y : y + 2, x : x + 2]
            across, down = block[:, :-1] != block[:, 1:], block[:-1] != block[1:]
            marked[y, x] = across.any() or down.any()
    return marked


label_arrays = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2)
)


@given(label_arrays)
def test_boundaries_are_the_benchmarks(labels):
    expected = thin(seg2bdry(labels))
    np.testing.assert_array_equal(label_boundaries(torch.from_numpy(labels)).numpy(), expected)


def test_the_order_in_memory_does_not_matter(generator):
    # Matlab files are read column by column.
    labels = torch.randint(3, (20, 30), generator=generator)
    columns = labels.T.contiguous().T
    assert torch.equal(label_boundaries(columns), label_boundaries(labels))


def test_smooth_regions():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    seeds = rng.random((12, 2)) * (90, 120)
    labels = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in seeds], axis=0)
    found = label_boundaries(torch.from_numpy(labels)).numpy()
    marked = seg2bdry(labels)
    np.testing.assert_array_equal(found, thin(marked))
    assert found.sum() < marked.sum()


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 1), (1, 5), (4, 1)])
def test_tiny_maps(shape):
    labels = torch.zeros(shape, dtype=torch.int64)
    assert label_boundaries(labels).shape == shape
    assert not label_boundaries(labels).any()
    assert boundary_f_measure(labels, labels) == 1


def points(labels):
    return [tuple(p) for p in label_boundaries(labels).nonzero().tolist()]


@given(st.data(), st.sampled_from([0, 0.08, 0.15, 0.3]))
def test_matching_is_networkxs(data, tolerance):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=7))
    arrays = hnp.arrays(np.int64, shape, elements=st.integers(0, 1))
    preds, target = (torch.from_numpy(data.draw(arrays)) for _ in range(2))
    graph = nx.Graph()
    ours, theirs = points(preds), points(target)
    graph.add_nodes_from(("ours", p) for p in ours)
    for a in ours:
        for b in theirs:
            if hypot(a[0] - b[0], a[1] - b[1]) <= tolerance * hypot(*shape):
                graph.add_edge(("ours", a), ("theirs", b))
    size = len(nx.max_weight_matching(graph, maxcardinality=True))
    counts = boundary_counts(preds, target, tolerance)
    assert counts == (size, len(ours), size, len(theirs))
    both = len(ours) + len(theirs)
    assert counts.f_measure == pytest.approx(2 * size / both if both else 1)


def split(column, size=40):
    labels = torch.zeros(size, size, dtype=torch.int64)
    labels[:, column:] = 1
    return labels


def test_a_shifted_line():
    # The diagonal is 56.6 pixels: 0.05 of it reaches 2.8.
    for shift, matched in ((0, 40), (2, 40), (3, 0)):
        counts = boundary_counts(split(20), split(20 + shift), tolerance=0.05)
        assert counts == (matched, 40, matched, 40), shift
    assert boundary_f_measure(split(20), split(22), 0.05) == 1
    assert boundary_f_measure(split(20), split(23), 0.05) == 0


def test_one_to_one():
    double = split(20)
    double[:, 22:] = 2  # two lines, both near the one of the target
    counts = boundary_counts(double, split(21), tolerance=0.05)
    assert counts == (40, 80, 40, 40)
    assert counts.precision == 0.5
    assert counts.recall == 1
    assert counts.f_measure == pytest.approx(2 / 3)


def test_annotators():
    double = split(10)
    double[:, 30:] = 2
    targets = [split(10), split(30), split(20)]
    counts = boundary_counts(double, targets, tolerance=0.02)
    # Every pixel of ours has an annotator; the third annotator's line is not found.
    assert counts == (80, 80, 80, 120)
    assert boundary_counts(double, torch.stack(targets), tolerance=0.02) == counts
    # Matched by two annotators, counted once.
    assert boundary_counts(split(10), [split(10), split(10)], 0.02) == (40, 40, 80, 80)


def test_no_boundary():
    nothing = torch.zeros(40, 40, dtype=torch.int64)
    assert boundary_f_measure(nothing, nothing + 3) == 1
    for preds, target in ((nothing, split(20)), (split(20), nothing)):
        counts = boundary_counts(preds, target)
        assert (counts.precision, counts.recall, counts.f_measure) == (0, 0, 0)
    half = boundary_counts(split(20), [nothing, split(20)])
    assert (half.precision, half.recall) == (1, 1)


def test_a_photo_takes_little_time(generator):
    """Greedy growth of paths can take ten seconds for lines like these; the flow takes none."""
    import time

    labels = [torch.randint(40, (33, 49), generator=generator) for _ in range(6)]
    maps = [each.repeat_interleave(10, 0).repeat_interleave(10, 1)[:321, :481] for each in labels]
    start = time.perf_counter()
    counts = boundary_counts(maps[0], maps[1:])
    assert time.perf_counter() - start < 10
    assert counts == boundary_counts(maps[0], maps[1:])
    assert counts.total_pred > 20_000


def test_wrong_arguments():
    labels = split(3)
    with pytest.raises(ValueError, match=r"shape \(H, W\), but got \(40,\)"):
        label_boundaries(labels[0])
    with pytest.raises(TypeError, match="`labels` to hold integers, but got torch.float32"):
        label_boundaries(labels.float())
    with pytest.raises(ValueError, match=r"shape of `target`, \(39, 40\), but got \(40, 40\)"):
        boundary_counts(labels, [labels, labels[1:]])
    for wrong in (-0.1, float("nan"), float("inf"), "0.1", None, True):
        with pytest.raises(ValueError, match="`tolerance` to be a number, at least 0, but got"):
            boundary_counts(labels, labels, wrong)
