"""Agreement of a segmentation's boundaries with annotators' boundaries."""

from collections.abc import Sequence
from math import hypot, isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import maximum_flow  # type: ignore[import-untyped]
from scipy.spatial import KDTree  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit.metrics.functional.checks import annotations, check_labels, check_pair

# Steps to the eight neighbours (rows, columns), from the east, counter-clockwise.
_NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


class BoundaryCounts(NamedTuple):
    """Boundary pixels of an image, or summed over images.

    Args:
        matched_pred: The segmentation's that some annotator's matching takes, each once.
        total_pred: The segmentation's.
        matched_target: The annotators' that are matched, over all annotators.
        total_target: The annotators', over all annotators.
    """

    matched_pred: int
    total_pred: int
    matched_target: int
    total_target: int

    @property
    def precision(self) -> float:
        """Share of the segmentation's boundary that is matched; 1 if nobody draws any."""
        return _share(self.matched_pred, self.total_pred, self.total_target)

    @property
    def recall(self) -> float:
        """Share of the annotators' boundaries that is matched; 1 if nobody draws any."""
        return _share(self.matched_target, self.total_target, self.total_pred)

    @property
    def f_measure(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def label_boundaries(labels: Tensor) -> Tensor:
    """Mark the boundary pixels of a label map, as BSDS500 does.

    A pixel is marked if two 4-neighbours among it, the pixel below, the one to the right and the
    one diagonally below right have different ids (the benchmark's ``seg2bdry``, image size; the
    boundary so lies half a pixel towards the origin). Then the marks are thinned to lines until
    nothing changes (Matlab's ``bwmorph(…, 'thin', inf)``: Lam, Lee and Suen, PAMI 1992, after Guo
    and Hall, CACM 1989). That is exactly the field ``Boundaries`` of BSDS500's ground truth.

    Args:
        labels: ``(H, W)`` integer ids.

    Returns:
        ``(H, W)`` bool, on the device of ``labels``.

    Raises:
        TypeError: If the map is not a tensor of integers.
        ValueError: If it is not two-dimensional.

    Example:
        >>> import torch
        >>> label_boundaries(torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1]])).int()
        tensor([[0, 1, 0],
                [0, 1, 0],
                [0, 1, 0]], dtype=torch.int32)
    """
    ids = check_labels(labels, "labels")
    if ids.ndim != 2:
        raise ValueError(
            f"Expected argument `labels` to have shape (H, W), but got {tuple(ids.shape)}."
        )
    below, right = ids[:-1] != ids[1:], ids[:, :-1] != ids[:, 1:]
    marked = torch.zeros_like(ids, dtype=torch.bool)
    marked[:-1] |= below
    marked[:-1, :-1] |= below[:, 1:]
    marked[:, :-1] |= right
    marked[:-1, :-1] |= right[1:]
    return torch.from_numpy(_thin(marked.cpu().numpy())).to(labels.device)


def boundary_counts(
    preds: Tensor, targets: Tensor | Sequence[Tensor], tolerance: float = 0.0075
) -> BoundaryCounts:
    """Match the boundary pixels of a segmentation one to one with each annotator's.

    A pixel can be matched with one no further than ``tolerance`` times the image's diagonal, and
    each annotator's matching is as large as possible. As in the BSDS benchmark (Martin et al.,
    "Learning to Detect Natural Image Boundaries", PAMI 2004), a pixel of the segmentation counts
    once if any annotator's matching takes it, and every annotator's pixels count for recall. The
    benchmark approximates a matching of least total distance; this one is of greatest size.
    With several annotators precision depends, slightly, on which of several largest matchings
    is found; the same maps always give the same one. Recall does not.

    Args:
        preds: ``(H, W)`` integer segment ids.
        targets: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.
        tolerance: Of the diagonal.

    Returns:
        The counts, which add up over images.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ or are not two-dimensional, there is no annotator, or
            the tolerance is negative.

    Example:
        >>> import torch
        >>> ours, theirs = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> ours[:, 4:], theirs[:, 5:] = 1, 1
        >>> boundary_counts(ours, theirs)
        BoundaryCounts(matched_pred=0, total_pred=8, matched_target=0, total_target=8)
        >>> boundary_counts(ours, theirs, tolerance=0.1)
        BoundaryCounts(matched_pred=8, total_pred=8, matched_target=8, total_target=8)
    """
    check_tolerance(tolerance)
    maps = annotations(check_labels(preds, "preds"), targets)
    for target in maps:
        check_pair(preds, target)
    ours = _points(preds)
    radius = tolerance * hypot(*preds.shape)
    taken = np.zeros(len(ours), dtype=bool)
    matched = total = 0
    for target in maps:
        theirs = _points(target)
        mine = _matched(ours, theirs, radius)
        taken |= mine
        matched += int(mine.sum())
        total += len(theirs)
    return BoundaryCounts(int(taken.sum()), len(ours), matched, total)


def boundary_f_measure(
    preds: Tensor, targets: Tensor | Sequence[Tensor], tolerance: float = 0.0075
) -> Tensor:
    """Harmonic mean of the boundaries' precision and recall.

    Args:
        preds: ``(H, W)`` integer segment ids.
        targets: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.
        tolerance: How far matched pixels may be apart, as a part of the image's diagonal.

    Returns:
        Float64 scalar in [0, 1], on the CPU. If neither side draws any boundary they agree, and
        it is 1; if only one does, it is 0.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ or are not two-dimensional, there is no annotator, or
            the tolerance is negative.

    Example:
        >>> import torch
        >>> ours, theirs = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> ours[:, 4:], theirs[:4, 4:] = 1, 1
        >>> boundary_f_measure(ours, theirs)
        tensor(0.4000, dtype=torch.float64)
    """
    f_measure = boundary_counts(preds, targets, tolerance).f_measure
    return torch.tensor(f_measure, dtype=torch.float64)


def check_tolerance(tolerance: object) -> None:
    """Raise unless ``tolerance`` is a number that can be a part of a diagonal.

    Args:
        tolerance: The value to check.

    Raises:
        ValueError: If it is negative, infinite or no number.
    """
    is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not is_number or not isfinite(tolerance) or tolerance < 0:  # type: ignore[arg-type,operator]
        raise ValueError(
            f"Expected argument `tolerance` to be a number, at least 0, but got {tolerance!r}."
        )


def _points(labels: Tensor) -> NDArray[Any]:
    """``(M, 2)`` rows and columns of the boundary pixels."""
    return np.argwhere(label_boundaries(labels).cpu().numpy())


def _matched(ours: NDArray[Any], theirs: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """``(M,)``: which of our points a largest one-to-one matching with theirs takes."""
    if not len(ours) or not len(theirs):
        return np.zeros(len(ours), dtype=bool)
    near = KDTree(ours).sparse_distance_matrix(KDTree(theirs), radius, output_type="ndarray")
    # The largest flow when each point passes on at most one: from a source to ours, on to theirs,
    # to a sink. (scipy's bipartite matching finds as many, but can take ten seconds.)
    source, sink = len(ours) + len(theirs), len(ours) + len(theirs) + 1
    mine, other = np.arange(len(ours)), len(ours) + np.arange(len(theirs))
    tails = np.concatenate([near["i"], np.full(len(ours), source), other])
    heads = np.concatenate([len(ours) + near["j"], mine, np.full(len(theirs), sink)])
    capacity = csr_matrix((np.ones(len(tails), np.int32), (tails, heads)), (sink + 1, sink + 1))
    capacity.sort_indices()  # their order decides which of several largest matchings is found
    flow = maximum_flow(capacity, source, sink, method="dinic").flow
    taken: NDArray[np.bool_] = flow[[source]].toarray()[0, : len(ours)] > 0
    return taken


def _thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Peel a mask from two sides in turn until only lines are left, which stay connected."""
    # Row by row, whatever the order of the mask, so that the flat one is a view.
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), dtype=bool)
    padded[1:-1, 1:-1] = mask
    flat = padded.reshape(-1)
    steps = np.array([row * padded.shape[1] + column for row, column in _NEIGHBOURS])
    pixels = np.flatnonzero(flat)
    before = -1
    while before != len(pixels):
        before = len(pixels)
        for side in (0, 4):
            around = flat[pixels[:, None] + steps]
            removed = _removable(np.roll(around, -side, axis=1))
            flat[pixels[removed]] = False
            pixels = pixels[~removed]
    return padded[1:-1, 1:-1].copy()


def _removable(around: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels one step of the thinning takes away.

    Args:
        around: ``(M, 8)``, each pixel's neighbours counter-clockwise, from the one (east or
            west) that the step looks towards.

    Returns:
        ``(M,)``.
    """
    sides, corners = around[:, 0::2], around[:, 1::2]
    next_sides = np.roll(sides, -1, axis=1)
    connects_once = (~sides & (corners | next_sides)).sum(1) == 1
    pairs = np.minimum((sides | corners).sum(1), (corners | next_sides).sum(1))
    is_end = (pairs < 2) | (pairs > 3)
    blocked = (around[:, 1] | around[:, 2] | ~around[:, 7]) & around[:, 0]
    removable: NDArray[np.bool_] = connects_once & ~is_end & ~blocked
    return removable


def _share(matched: int, total: int, other: int) -> float:
    if not total:
        return 0.0 if other else 1.0
    return matched / total
