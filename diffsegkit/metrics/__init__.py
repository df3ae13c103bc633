"""Metrics of segmentations whose segments have no names, for torchmetrics.

Three protocols, which no table should mix: *image-matched* (DiffSeg: segments are matched to
classes in each image), *dataset-matched* (PiCIE, STEGO: clusters are matched once for the set) and
*region* (BSDS: agreement with annotators, without classes). The pure functions beneath are in
:mod:`diffsegkit.metrics.functional`.
"""

from diffsegkit.metrics.base import ImageMetric
from diffsegkit.metrics.boundary import BoundaryFMeasure
from diffsegkit.metrics.matched import (
    DatasetMatchedAccuracy,
    DatasetMatchedMeanIoU,
    ImageMatchedAccuracy,
    ImageMatchedMeanIoU,
)
from diffsegkit.metrics.region import (
    ClusteringScore,
    ProbabilisticRandIndex,
    SegmentationCovering,
    VariationOfInformation,
)
from diffsegkit.metrics.segment_count import SegmentCount

__all__ = [
    "BoundaryFMeasure",
    "ClusteringScore",
    "DatasetMatchedAccuracy",
    "DatasetMatchedMeanIoU",
    "ImageMatchedAccuracy",
    "ImageMatchedMeanIoU",
    "ImageMetric",
    "ProbabilisticRandIndex",
    "SegmentCount",
    "SegmentationCovering",
    "VariationOfInformation",
]
