"""Region merging and the ultrametric it gives."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import squareform

from diffsegkit.sources.regions import MergeTree, merge_regions, ultrametric


def without_contours(cells):
    height, width, _ = cells.shape
    return np.zeros((height, width - 1)), np.zeros((height - 1, width))


def merge(cells, **options):
    return merge_regions(cells, *without_contours(cells), **options)


def test_the_first_and_the_last_merge_by_hand():
    tree = merge(np.array([[[0.0], [0.1], [3.0]]]))
    assert tree.pairs.tolist() == [[0, 1], [2, 3]]
    unit = (1 / 3) ** 0.25  # one cell of border, in longer sides
    first = (1 / 6) * (1 - np.exp(-0.01)) / unit
    last = (2 / 9) * (1 - np.exp(-(2.95**2))) / unit
    np.testing.assert_allclose(tree.heights, [first, last])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (5, 9)])
def test_every_shape_ends_in_one_region(shape):
    cells = np.random.default_rng(0).random((*shape, 3))
    tree = merge(cells)
    count = shape[0] * shape[1]
    # Each cell and each region but the last is merged once, after it came to be.
    assert sorted(tree.pairs.ravel().tolist()) == list(range(2 * count - 2))
    assert (tree.pairs.max(1, initial=-1) < np.arange(count, 2 * count - 1)).all()
    assert (np.diff(tree.heights) >= 0).all()


def test_only_neighbours_merge():
    """Two equal ends with something else between them: the ends never pair up."""
    tree = merge(np.array([[[0.0], [9.0], [0.0]]]))
    assert tree.pairs.tolist() in ([[0, 1], [2, 3]], [[1, 2], [0, 3]])


def test_the_cheapest_pair_by_comparing_all():
    """Against a search of all pairs of regions at every step."""
    rng = np.random.default_rng(1)
    cells, across, down = rng.random((4, 5, 2)), rng.random((4, 4)), rng.random((3, 5))
    tree = merge_regions(cells, across, down, contour=0.7)
    flat, index = cells.reshape(20, 2), np.arange(20).reshape(4, 5)
    borders = [
        *zip(index[:, :-1].ravel(), index[:, 1:].ravel(), across.ravel(), strict=True),
        *zip(index[:-1].ravel(), index[1:].ravel(), down.ravel(), strict=True),
    ]
    regions = {cell: {cell} for cell in range(20)}

    def cost(one, other):
        a, b = regions[one], regions[other]
        shared = [c for i, j, c in borders if (i in a and j in b) or (i in b and j in a)]
        if not shared:
            return np.inf
        squared = np.square(flat[list(a)].mean(0) - flat[list(b)].mean(0)).sum()
        harmonic = len(a) * len(b) / (len(a) + len(b)) / 20
        return harmonic * (1 - np.exp(-squared) + 0.7 * np.mean(shared)) / (len(shared) / 5) ** 0.25

    highest = 0.0
    for merged, (pair, height) in enumerate(zip(tree.pairs, tree.heights, strict=True), start=20):
        costs = {(a, b): cost(a, b) for a in regions for b in regions if a < b}
        best = min(costs, key=costs.get)
        assert set(pair.tolist()) == set(best)
        highest = max(highest, costs[best])
        assert height == pytest.approx(highest)
        regions[merged] = regions.pop(best[0]) | regions.pop(best[1])


def test_the_ultrametric_is_the_cophenetic_distance():
    tree = merge(np.random.default_rng(2).random((6, 7, 3)))
    sizes = np.ones(83)
    for merged, pair in enumerate(tree.pairs, start=42):
        sizes[merged] = sizes[pair].sum()
    linkage = np.column_stack([tree.pairs, tree.heights, sizes[42:]])
    np.testing.assert_array_equal(ultrametric(tree), squareform(cophenet(linkage)))


def test_the_ultrametric_of_one_cell():
    empty = MergeTree(np.empty((0, 2), dtype=np.int64), np.empty(0))
    assert ultrametric(empty).tolist() == [[0.0]]
