"""The metrics as pure functions: label maps in, tensors out."""

from diffsegkit.metrics.functional.boundary import (
    BoundaryCounts,
    boundary_counts,
    boundary_f_measure,
    label_boundaries,
)
from diffsegkit.metrics.functional.contingency import Contingency, count_overlaps
from diffsegkit.metrics.functional.matching import (
    MatchedCounts,
    class_iou,
    match_segments,
    matched_counts,
    mean_iou,
    overlap_histogram,
    pixel_accuracy,
)
from diffsegkit.metrics.functional.region import (
    probabilistic_rand_index,
    segmentation_covering,
    variation_of_information,
)

__all__ = [
    "BoundaryCounts",
    "Contingency",
    "MatchedCounts",
    "boundary_counts",
    "boundary_f_measure",
    "class_iou",
    "count_overlaps",
    "label_boundaries",
    "match_segments",
    "matched_counts",
    "mean_iou",
    "overlap_histogram",
    "pixel_accuracy",
    "probabilistic_rand_index",
    "segmentation_covering",
    "variation_of_information",
]
