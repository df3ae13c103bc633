"""Agreement of a segmentation with annotators' regions, which have no classes."""

from collections.abc import Callable, Sequence
from math import nan

import torch
from torch import Tensor

from diffsegkit.metrics.functional.checks import annotations, check_labels
from diffsegkit.metrics.functional.contingency import Contingency, count_overlaps


def segmentation_covering(
    preds: Tensor, targets: Tensor | Sequence[Tensor], ignore_index: int | None = None
) -> Tensor:
    """How well the segments cover the annotators' regions.

    Mean over annotators of Σ |R| / n · max IoU(R, S), over the ground truth's regions R and the
    segments S (Arbeláez et al., "Contour Detection and Hierarchical Image Segmentation", PAMI
    2011, section 3.1.4).

    Args:
        preds: ``(H, W)`` integer segment ids; their values do not matter.
        targets: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.
        ignore_index: A region that does not count; an annotator with no pixel left is left out.

    Returns:
        Float64 scalar in (0, 1], on the CPU; NaN if no annotator has a pixel.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ, or there is no annotator.

    Example:
        >>> import torch
        >>> segmentation_covering(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]]))
        tensor(0.6250, dtype=torch.float64)
    """
    return _mean_over_annotators(covering, preds, targets, ignore_index)


def probabilistic_rand_index(
    preds: Tensor, targets: Tensor | Sequence[Tensor], ignore_index: int | None = None
) -> Tensor:
    """Share of the pixel pairs on which segmentation and annotators agree.

    Mean over annotators of the Rand index: a pair agrees if both maps join it or both separate it
    (Unnikrishnan et al., "Toward Objective Evaluation of Image Segmentation Algorithms", PAMI
    2007). A single pixel has no pair and agrees.

    Args:
        preds: ``(H, W)`` integer segment ids; their values do not matter.
        targets: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.
        ignore_index: A region that does not count; an annotator with no pixel left is left out.

    Returns:
        Float64 scalar in [0, 1], on the CPU; NaN if no annotator has a pixel.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ, or there is no annotator.

    Example:
        >>> import torch
        >>> probabilistic_rand_index(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]]))
        tensor(0.5000, dtype=torch.float64)
    """
    return _mean_over_annotators(rand_index, preds, targets, ignore_index)


def variation_of_information(
    preds: Tensor, targets: Tensor | Sequence[Tensor], ignore_index: int | None = None
) -> Tensor:
    """Information that segmentation and annotators do not share, in bits.

    Mean over annotators of H(P) + H(T) − 2 I(P; T) (Meilă, "Comparing Clusterings: an Axiomatic
    View", ICML 2005). 0 if they agree; lower is better.

    Args:
        preds: ``(H, W)`` integer segment ids; their values do not matter.
        targets: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.
        ignore_index: A region that does not count; an annotator with no pixel left is left out.

    Returns:
        Float64 scalar, at least 0 bits, on the CPU; NaN if no annotator has a pixel.

    Raises:
        TypeError: If a map is not a tensor of integers.
        ValueError: If the shapes differ, or there is no annotator.

    Example:
        >>> import torch
        >>> variation_of_information(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 0]]))
        tensor(1., dtype=torch.float64)
    """
    return _mean_over_annotators(information_distance, preds, targets, ignore_index)


def covering(table: Contingency) -> float:
    """Σ |R| / n · max IoU(R, S) of one annotator.

    Args:
        table: At least one pixel.

    Returns:
        The covering.
    """
    regions, segments = table.region_sizes(), table.segment_sizes()
    union = regions[table.regions] + segments[table.segments] - table.counts
    iou = table.counts.double() / union.double()
    best = torch.zeros(len(regions), dtype=torch.float64)
    best.scatter_reduce_(0, table.regions, iou, "amax")
    return float((regions * best).sum()) / table.num_pixels


def rand_index(table: Contingency) -> float:
    """Share of the pairs of pixels that two maps both join or both separate.

    Args:
        table: At least one pixel.

    Returns:
        The Rand index; 1 for a single pixel.
    """
    # Whole numbers up to n², beyond float64 for 100 megapixels but not beyond int64.
    pairs = table.num_pixels * (table.num_pixels - 1)
    both = int(table.counts.square().sum())
    one = int(table.region_sizes().square().sum()) + int(table.segment_sizes().square().sum())
    return (pairs - one + 2 * both) / pairs if pairs else 1.0


def information_distance(table: Contingency) -> float:
    """H(P) + H(T) − 2 I(P; T) of one annotator, in bits.

    Args:
        table: At least one pixel.

    Returns:
        The variation of information.
    """
    shared = table.counts.double()
    # Term by term at least 0, so that equal maps give exactly 0.
    bits = (table.region_sizes()[table.regions] / shared).log2()
    bits += (table.segment_sizes()[table.segments] / shared).log2()
    return float((shared * bits).sum()) / table.num_pixels


def mean_over_tables(score: Callable[[Contingency], float], tables: Sequence[Contingency]) -> float:
    """Mean of a score over the annotators who have pixels.

    Args:
        score: What to compute of each annotator's table.
        tables: One table per annotator.

    Returns:
        The mean; NaN if no table has a pixel.
    """
    scores = [score(table) for table in tables if table.num_pixels]
    return sum(scores) / len(scores) if scores else nan


def _mean_over_annotators(
    score: Callable[[Contingency], float],
    preds: Tensor,
    targets: Tensor | Sequence[Tensor],
    ignore_index: int | None,
) -> Tensor:
    maps = annotations(check_labels(preds, "preds"), targets)
    tables = [count_overlaps(preds, target, ignore_index) for target in maps]
    return torch.tensor(mean_over_tables(score, tables), dtype=torch.float64)
