"""Regions that grow by merging neighbours, and the distance that their order gives."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Borders count with this power of their length. At 0 the rule is Ward's, which lets a region leak
# through a gap; at 1 it is Mumford and Shah's, which cuts off every compact spot. Chosen with the
# preset `affinity`.
_LENGTH_POWER = 0.25


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Which regions were merged, in order.

    Args:
        pairs: ``(N - 1, 2)`` int64; below N a cell, and N + k is what merge k made.
        heights: ``(N - 1,)`` what each merge cost, never falling.
    """

    pairs: NDArray[np.int64]
    heights: Array


def merge_regions(cells: Array, across: Array, down: Array, contour: float = 1.0) -> MergeTree:
    """Merge the cells of a grid into ever larger connected regions, the cheapest pair first.

    Two neighbours a and b, which hold shares ``n`` of the image, cost

        ``n_a n_b / (n_a + n_b) * (1 - exp(-|m_a - m_b|^2) + contour * c) / length^(1/4)``

    where m are their means, c is the mean contour on the border between them, and the length of
    that border is in units of the longer side. The first factor is Ward's: with it the cost is
    the error that a piecewise constant image gains, as in the region merging of Koepfler, Lopez
    and Morel (1994) for the functional of Mumford and Shah (1989). So large regions merge only if
    they are alike and a speck merges soon. Differences saturate, as in the tests of Statistical
    Region Merging (Nock and Nielsen, 2004): what clearly differs does not differ more for
    differing even more.

    Args:
        cells: ``(h, w, C)``, what the cells look like.
        across: ``(h, w - 1)``, the contour between each cell and the one to its right, 0 to 1.
        down: ``(h - 1, w)``, the contour between each cell and the one below, 0 to 1.
        contour: Weight of contours against the difference of means.

    Returns:
        The tree. Among equal costs the first cells go first.

    Example:
        >>> cells = np.array([[[0.0], [0.1], [3.0]]])
        >>> merge_regions(cells, np.zeros((1, 2)), np.zeros((0, 3))).pairs.tolist()
        [[0, 1], [2, 3]]
    """
    height, width, channels = cells.shape
    count = height * width
    means = np.empty((2 * count - 1, channels))
    means[:count] = cells.reshape(count, channels)
    sizes = np.zeros(2 * count - 1)
    sizes[:count] = 1 / count
    # Of each region its neighbours, with the length of the border and the sum of contours on it.
    borders: list[dict[int, tuple[float, float]]] = [{} for _ in range(2 * count - 1)]
    queue: list[tuple[float, int, int]] = []
    unit = 1 / max(height, width)

    def push(region: int, others: Iterable[int]) -> None:
        """Queue merges of a region with some of its neighbours."""
        keys = list(others)
        if not keys:
            return
        length, strength = np.array([borders[region][key] for key in keys]).T
        squared = np.square(means[keys] - means[region]).sum(1)
        harmonic = sizes[keys] * sizes[region] / (sizes[keys] + sizes[region])
        difference = -np.expm1(-squared) + contour * strength / length
        costs = harmonic * difference / (length * unit) ** _LENGTH_POWER
        for key, cost in zip(keys, costs.tolist(), strict=True):
            heapq.heappush(queue, (cost, key, region))

    for one, other, strength in _grid_borders(across, down):
        borders[one][other] = borders[other][one] = (1.0, strength)
    for cell in range(count):
        push(cell, [other for other in borders[cell] if other < cell])

    pairs = np.empty((count - 1, 2), dtype=np.int64)
    heights = np.empty(count - 1)
    merged = np.zeros(2 * count - 1, dtype=bool)
    region = count
    while queue:
        cost, one, other = heapq.heappop(queue)
        if merged[one] or merged[other]:
            continue
        pairs[region - count] = one, other
        heights[region - count] = cost
        merged[[one, other]] = True
        sizes[region] = sizes[one] + sizes[other]
        means[region] = (sizes[one] * means[one] + sizes[other] * means[other]) / sizes[region]
        borders[region] = _joined(borders, one, other)
        for neighbour, border in borders[region].items():
            borders[neighbour][region] = border
        push(region, borders[region])
        region += 1
    # A merge can make the next one cheaper than it was itself.
    return MergeTree(pairs, np.maximum.accumulate(heights))


def ultrametric(tree: MergeTree) -> Array:
    """The height at which two cells come to lie in one region.

    It is an ultrametric: ``u(i, k) <= max(u(i, j), u(j, k))``. Cut at any height it is a
    segmentation, and so it holds a segmentation for every scale (as ultrametric contour maps do;
    Arbelaez, 2006).

    Args:
        tree: The merges of N cells.

    Returns:
        ``(N, N)``, symmetric, zero on the diagonal.

    Example:
        >>> ultrametric(MergeTree(np.array([[0, 1], [2, 3]]), np.array([1.0, 5.0])))
        array([[0., 1., 5.],
               [1., 0., 5.],
               [5., 5., 0.]])
    """
    count = len(tree.heights) + 1
    sizes = np.ones(2 * count - 1, dtype=np.int64)
    for merge, (one, other) in enumerate(tree.pairs, start=count):
        sizes[merge] = sizes[one] + sizes[other]
    # In the order of the leaves every region is a range, so a merge fills two blocks.
    starts = np.zeros(2 * count - 1, dtype=np.int64)
    ordered = np.zeros((count, count))
    for merge in range(2 * count - 2, count - 1, -1):
        one, other = tree.pairs[merge - count]
        start = starts[one] = starts[merge]
        middle = starts[other] = start + sizes[one]
        end = start + sizes[merge]
        ordered[start:middle, middle:end] = tree.heights[merge - count]
        ordered[middle:end, start:middle] = tree.heights[merge - count]
    leaves = starts[:count]
    return ordered[np.ix_(leaves, leaves)]


def _grid_borders(across: Array, down: Array) -> Iterator[tuple[int, int, float]]:
    """Every pair of neighbouring cells, and the contour between them."""
    height, width = across.shape[0], down.shape[1]
    index = np.arange(height * width).reshape(height, width)
    for one, other, contours in (
        (index[:, :-1], index[:, 1:], across),
        (index[:-1], index[1:], down),
    ):
        yield from zip(
            one.ravel().tolist(), other.ravel().tolist(), contours.ravel().tolist(), strict=True
        )


def _joined(
    borders: list[dict[int, tuple[float, float]]], one: int, other: int
) -> dict[int, tuple[float, float]]:
    """The borders of what two regions make; they are taken off the lists of the neighbours."""
    joined: dict[int, tuple[float, float]] = {}
    for region in (one, other):
        for neighbour, (length, strength) in borders[region].items():
            if neighbour in (one, other):
                continue
            before = joined.get(neighbour, (0.0, 0.0))
            joined[neighbour] = (before[0] + length, before[1] + strength)
            del borders[neighbour][region]
        borders[region] = {}
    return joined
