"""Every metric, and images for all of them."""

import torch

from diffsegkit.metrics import (
    BoundaryFMeasure,
    ClusteringScore,
    DatasetMatchedAccuracy,
    DatasetMatchedMeanIoU,
    ImageMatchedAccuracy,
    ImageMatchedMeanIoU,
    ProbabilisticRandIndex,
    SegmentationCovering,
    SegmentCount,
    VariationOfInformation,
)

METRICS = {
    "image_iou": lambda: ImageMatchedMeanIoU(4),
    "image_iou_tie_free": lambda: ImageMatchedMeanIoU(4, variant="tie_free", background=3),
    "image_accuracy": lambda: ImageMatchedAccuracy(4),
    "dataset_iou": lambda: DatasetMatchedMeanIoU(4, num_clusters=7),
    "dataset_accuracy": lambda: DatasetMatchedAccuracy(4, num_clusters=7),
    "covering": SegmentationCovering,
    "rand": ProbabilisticRandIndex,
    "information": lambda: VariationOfInformation(ignore_index=-1),
    "adjusted_rand": ClusteringScore,
    "normalized_mutual_info": lambda: ClusteringScore("normalized_mutual_info_score"),
    "boundary": lambda: BoundaryFMeasure(tolerance=0.1),
    "count": SegmentCount,
}


def images(number, seed=0):
    """Images of different sizes, with segments 0..6 and classes −1..3."""
    generator = torch.Generator().manual_seed(seed)
    preds, targets = [], []
    for image in range(number):
        shape = (2 + image % 3, 3 + image % 2)
        target = torch.randint(-1, 4, shape, generator=generator)
        noise = torch.randint(7, shape, generator=generator)
        preds.append(torch.where(noise < 4, target + 1, noise).repeat_interleave(3, 0))
        targets.append(target.repeat_interleave(3, 0))
    return preds, targets
