"""Matching of segments to classes: overlap histograms, the assignment, and counts from it."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit.metrics.functional.checks import (
    check_ignore_index,
    check_labels,
    check_number,
    check_pair,
)

Variant = Literal["original", "tie_free"]
"""How segments without overlap are treated; see :func:`match_segments`."""


class MatchedCounts(NamedTuple):
    """Pixels per class after matching, each ``(C,)`` int64.

    Args:
        tp: Pixels of the class in its segment.
        fp: Pixels of other classes in its segment.
        fn: Pixels of the class in other segments.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor


def overlap_histogram(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    ignore_index: int | None = -1,
    num_segments: int | None = None,
) -> Tensor:
    """Count the pixels that each class shares with each segment.

    The original's ``_fast_hist`` (google/diffseg, diffseg/utils.py), but a label that is neither
    a class nor ``ignore_index`` is an error, not silently left out.

    Args:
        preds: Segment ids, an integer tensor ``(H, W)`` or of any other shape, at least 0.
        target: Classes 0..C−1, of the same shape, or ``ignore_index``.
        num_classes: C.
        ignore_index: The label of pixels that count nowhere; None if there are none.
        num_segments: How many segment ids there can be; without it, as many as the highest id
            asks for, that of ignored pixels included.

    Returns:
        ``(C, K)`` int64 pixels, on the device of ``preds``; K is the number of segment ids, but
        at least C.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ, an id is negative or at least ``num_segments``, or a
            label is neither a class nor ``ignore_index``.

    Example:
        >>> import torch
        >>> preds = torch.tensor([[0, 0, 2], [0, 2, 2]])
        >>> target = torch.tensor([[1, 1, 0], [0, 0, -1]])
        >>> overlap_histogram(preds, target, num_classes=2)
        tensor([[1, 0, 2],
                [2, 0, 0]])
    """
    classes = check_number(num_classes, "num_classes")
    segments, labels = check_pair(preds, target)
    lowest, highest = _range(segments)
    if lowest < 0:
        raise ValueError(f"Expected argument `preds` to hold ids from 0, but got {lowest}.")
    width = highest + 1
    if num_segments is not None:
        width = check_number(num_segments, "num_segments")
        if highest >= width:
            raise ValueError(
                f"Expected argument `preds` to hold ids below {width}, the number of segments, "
                f"but got {highest}."
            )
    width = max(classes, width)
    ignored = check_ignore_index(ignore_index)
    if ignored is not None:
        counted = labels != ignored
        segments, labels = segments[counted], labels[counted]
    lowest, highest = _range(labels)
    if lowest < 0 or highest >= classes:
        allowed = "" if ignored is None else f" or `ignore_index` {ignored}"
        raise ValueError(
            f"Expected argument `target` to hold classes 0 to {classes - 1}{allowed}, but got "
            f"{lowest if lowest < 0 else highest}."
        )
    flat = labels.flatten() * width + segments.flatten()
    return torch.bincount(flat, minlength=classes * width).view(classes, width)


def match_segments(histogram: Tensor, variant: Variant = "original") -> Tensor:
    """Match segments to classes one to one, so that the overlap is largest.

    Args:
        histogram: ``(C, K)`` pixels that class and segment share.
        variant: ``"original"`` is DiffSeg's matching, scipy's solver on the matrix as it is: a
            class that is absent, or left over, takes whatever segment the solver's tie-breaking
            gives it, and that segment's pixels become its false positives. With ``"tie_free"``
            a class and a segment without overlap stay unmatched, and the counts that follow do
            not depend on the segments' ids: among several best assignments one is chosen by
            the contents of the columns alone.

    Returns:
        ``(C,)`` int64, each class's segment, −1 for none; on the device of ``histogram``.

    Raises:
        TypeError: If the histogram is not a tensor of integers.
        ValueError: If it is not a matrix or has a negative entry, or the variant is unknown.

    Example:
        >>> import torch
        >>> histogram = torch.tensor([[1, 6, 0], [0, 4, 0], [0, 0, 0]])
        >>> match_segments(histogram)
        tensor([1, 0, 2])
        >>> match_segments(histogram, variant="tie_free")
        tensor([ 1, -1, -1])
    """
    check_variant(variant)
    matrix = _check_histogram(histogram).cpu().numpy()
    matches = np.full(len(matrix), -1)
    if variant == "original":
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        matches[rows] = columns
    elif matrix.size:
        # What has no pixels has no say; the order of the rest is that of their contents.
        present = np.flatnonzero(matrix.any(1))
        used = np.flatnonzero(matrix.any(0))
        used = used[_order_by_contents(matrix[:, used])]
        rows, columns = linear_sum_assignment(matrix[np.ix_(present, used)], maximize=True)
        rows, columns = present[rows], used[columns]
        overlap = matrix[rows, columns] > 0
        matches[rows[overlap]] = columns[overlap]
    return torch.from_numpy(matches).to(histogram.device)


def matched_counts(
    histogram: Tensor, variant: Variant = "original", background: int | None = None
) -> MatchedCounts:
    """Match the segments of one image to classes, and count pixels per class.

    As ``hungarian_matching`` of the original (google/diffseg, diffseg/utils.py): the pixels of a
    segment that no class takes are false negatives.

    With ``background``, many segments may be background, as DiffCut evaluates Pascal VOC,
    Pascal Context and COCO-Object (PaulCouairon/DiffCut, eval_diffcut.py): the segments are
    matched to the other classes first; those that no class keeps become one segment; then all
    classes are matched. In the original variant a class keeps its segment, as there, if any
    of the matched segments has a pixel of the class; in the tie-free variant, if its own has.
    DiffCut has no ignored pixels, and counts at 128×128.

    Args:
        histogram: ``(C, K)`` pixels that class and segment share.
        variant: As in :func:`match_segments`.
        background: The class that may have many segments; None for none.

    Returns:
        True positives, false positives and false negatives per class.

    Raises:
        TypeError: If the histogram is not a tensor of integers.
        ValueError: If it is not a matrix or has a negative entry, the variant is unknown, or
            ``background`` is not a class.

    Example:
        >>> import torch
        >>> histogram = torch.tensor([[6, 0, 1], [0, 3, 4]])
        >>> matched_counts(histogram)
        MatchedCounts(tp=tensor([6, 4]), fp=tensor([0, 1]), fn=tensor([1, 3]))
        >>> matched_counts(histogram, background=1)
        MatchedCounts(tp=tensor([6, 7]), fp=tensor([0, 1]), fn=tensor([1, 0]))
    """
    counts = _check_histogram(histogram)
    order = torch.arange(len(counts), device=counts.device)
    if background is not None:
        check_background(background, len(counts))
        # DiffCut's background is the last class, and the solver's tie-breaking heeds the order.
        order = torch.cat([order[order != background], order[order == background]])
        counts = counts[order]
        if variant == "tie_free":
            # Segments that are alike to the other classes are told apart by their background.
            by_contents = torch.from_numpy(_order_by_contents(counts.cpu().numpy()))
            counts = counts[:, by_contents.to(counts.device)]
        counts = _merge_background(counts, variant, len(counts) - 1)
    matches = match_segments(counts, variant)
    taken = counts[:, matches.clamp_min(0)] * (matches >= 0)
    tp = taken.diagonal()
    back = order.argsort()
    return MatchedCounts(tp[back], (taken.sum(0) - tp)[back], (counts.sum(1) - tp)[back])


def class_iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        tp: ``(C,)`` true positives.
        fp: ``(C,)`` false positives.
        fn: ``(C,)`` false negatives.

    Returns:
        ``(C,)`` float64, TP / (TP + FP + FN); NaN for a class that neither occurs nor is matched.

    Example:
        >>> import torch
        >>> class_iou(torch.tensor([6, 0]), torch.tensor([1, 0]), torch.tensor([1, 0]))
        tensor([0.7500,    nan], dtype=torch.float64)
    """
    return tp.double() / (tp + fp + fn).double()


def mean_iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Mean intersection over union of the classes that occur or are matched.

    Args:
        tp: ``(C,)`` true positives.
        fp: ``(C,)`` false positives.
        fn: ``(C,)`` false negatives.

    Returns:
        Float64 scalar; NaN if there is no such class.

    Example:
        >>> import torch
        >>> mean_iou(torch.tensor([6, 0]), torch.tensor([1, 0]), torch.tensor([1, 0]))
        tensor(0.7500, dtype=torch.float64)
    """
    return class_iou(tp, fp, fn).nanmean()


def pixel_accuracy(tp: Tensor, total: Tensor | int) -> Tensor:
    """Share of the labelled pixels that lie in their class's segment.

    Args:
        tp: ``(C,)`` true positives.
        total: How many pixels are labelled.

    Returns:
        Float64 scalar; NaN if no pixel is labelled.

    Example:
        >>> import torch
        >>> pixel_accuracy(torch.tensor([6, 4]), total=14)
        tensor(0.7143, dtype=torch.float64)
    """
    return tp.sum().double() / total


def check_variant(variant: object) -> None:
    """Raise unless ``variant`` names a way to match.

    Args:
        variant: The value to check.

    Raises:
        ValueError: If it is unknown.
    """
    if variant not in get_args(Variant):
        raise ValueError(
            f"Expected argument `variant` to be one of {get_args(Variant)}, but got {variant!r}."
        )


def check_background(background: object, num_classes: int) -> None:
    """Raise unless ``background`` is a class.

    Args:
        background: The value to check.
        num_classes: How many classes there are.

    Raises:
        ValueError: If it is not an integer in 0..num_classes−1.
    """
    if check_number(background, "background", least=0) >= num_classes:
        raise ValueError(
            f"Expected argument `background` to be a class below {num_classes}, but got "
            f"{background}."
        )


def _merge_background(histogram: Tensor, variant: Variant, background: int) -> Tensor:
    """``(C, K')``: the segments that are no other class's become one.

    Its place matters to the solver's tie-breaking: DiffCut puts it one after the highest id, and
    a matrix has max(classes, ids) columns.
    """
    num_classes, width = histogram.shape
    used = histogram.any(0)
    # A histogram wider than the classes ends with the highest id, otherwise with the last used.
    ids = width if width > num_classes else int(used.nonzero().max()) + 1 if used.any() else 0
    classes = torch.arange(num_classes, device=histogram.device) != background
    foreground = histogram[classes, : max(num_classes - 1, ids)]
    matches = match_segments(foreground, variant)
    if variant == "original":
        keeps = foreground[:, matches[matches >= 0]].any(1) & (matches >= 0)
    else:
        keeps = matches >= 0
    merged = used.clone()
    merged[matches[keeps]] = False
    if not merged.any():
        return histogram
    result = histogram.new_zeros(num_classes, max(num_classes, ids + 1))
    result[:, :ids] = histogram[:, :ids] * ~merged[:ids]
    result[:, ids] = histogram[:, merged].sum(1)
    return result


def _order_by_contents(matrix: NDArray[Any]) -> NDArray[Any]:
    """``(K,)``: the columns in lexicographic order; equal ones stay in theirs."""
    order: NDArray[Any] = np.lexsort(matrix[::-1])
    return order


def _check_histogram(histogram: object) -> Tensor:
    """The histogram as int64, if it is one."""
    counts = check_labels(histogram, "histogram")
    if counts.ndim != 2:
        raise ValueError(
            f"Expected argument `histogram` to have shape (C, K), but got {tuple(counts.shape)}."
        )
    if counts.numel() and int(counts.min()) < 0:
        raise ValueError(
            f"Expected argument `histogram` to hold counts of pixels, but got {int(counts.min())}."
        )
    return counts


def _range(labels: Tensor) -> tuple[int, int]:
    """Lowest and highest value; (0, −1) of nothing."""
    if not labels.numel():
        return 0, -1
    lowest, highest = labels.aminmax()
    return int(lowest), int(highest)
