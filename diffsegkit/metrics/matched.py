"""Mean IoU and pixel accuracy after matching segments to classes."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffsegkit.metrics.base import ImageMetric
from diffsegkit.metrics.functional.checks import check_ignore_index, check_labels, check_number
from diffsegkit.metrics.functional.matching import (
    MatchedCounts,
    Variant,
    check_background,
    check_variant,
    class_iou,
    matched_counts,
    mean_iou,
    overlap_histogram,
    pixel_accuracy,
)


class _HistogramMetric(ImageMetric):
    """Measures which class shares how many pixels with which segment."""

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    def __init__(self, num_classes: int, ignore_index: int | None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.num_classes = check_number(num_classes, "num_classes")
        self.ignore_index = check_ignore_index(ignore_index)

    @property
    def statistic(self) -> str:
        """``histogram-C``, and the ignored label if it is not −1."""
        ignoring = "" if self.ignore_index == -1 else f"-ignoring-{self.ignore_index}"
        return f"histogram-{self.num_classes}{ignoring}"

    def measure(self, preds: Tensor, target: Tensor) -> dict[str, Any]:
        """Count the pixels that each class shares with each segment of one image.

        Args:
            preds: ``(H, W)`` integer segment ids, at least 0.
            target: ``(H, W)`` classes 0..C−1, or ``ignore_index``.

        Returns:
            ``shape``: [C, K], and ``cells``: [class, segment, pixels] wherever there are pixels.

        Raises:
            TypeError: If a map is not a tensor of integers.
            ValueError: If the shapes differ, an id is negative, or a label is neither a class
                nor ``ignore_index``.
        """
        histogram = overlap_histogram(preds, target, self.num_classes, self.ignore_index).cpu()
        where = histogram.nonzero()
        counts = histogram[where[:, 0], where[:, 1]]
        return {
            "shape": list(histogram.shape),
            "cells": torch.cat([where, counts[:, None]], dim=1).tolist(),
        }

    @abstractmethod
    def _counts(self, sums: Mapping[str, Tensor]) -> tuple[MatchedCounts, Tensor]:
        """The set's counts per class, and how many pixels are labelled."""

    def _histogram(self, statistics: Mapping[str, Any]) -> Tensor:
        classes, segments = statistics["shape"]
        if classes != self.num_classes:
            raise ValueError(
                f"Expected argument `statistics` to have {self.num_classes} classes, but got "
                f"{classes}."
            )
        cells = torch.tensor(statistics["cells"], dtype=torch.int64).reshape(-1, 3)
        histogram = torch.zeros(classes, segments, dtype=torch.int64)
        histogram[cells[:, 0], cells[:, 1]] = cells[:, 2]
        return histogram


class _MeanIoU(_HistogramMetric):
    def reduce(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Mean over the classes that occur or are matched; NaN if none does."""
        return mean_iou(*self._counts(sums)[0])

    def class_scores(self) -> Tensor:
        """``(C,)`` float64, IoU of each class over all images and processes so far.

        NaN for a class that neither occurs nor is matched.
        """
        return class_iou(*self._counts(self._synced_sums())[0])


class _Accuracy(_HistogramMetric):
    def reduce(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Share of the labelled pixels that lie in their class's segment; NaN without any."""
        counts, total = self._counts(sums)
        return pixel_accuracy(counts.tp, total)

    def class_scores(self) -> Tensor:
        """``(C,)`` float64, share of each class's pixels in its segment; NaN for an absent class.

        Over all images and processes so far.
        """
        counts, _ = self._counts(self._synced_sums())
        return counts.tp.double() / (counts.tp + counts.fn).double()


class _ImageMatched(_HistogramMetric):
    """Matches the segments of each image by themselves."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    total: Tensor

    def __init__(
        self,
        num_classes: int,
        variant: Variant = "original",
        ignore_index: int | None = -1,
        background: int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, ignore_index, **kwargs)
        check_variant(variant)
        if background is not None:
            check_background(background, self.num_classes)
        self.variant = variant
        self.background = background
        per_class = torch.zeros(self.num_classes, dtype=torch.int64)
        self.add_sums(
            f"image-matched {self.statistic} variant={variant} background={background}",
            tp=per_class,
            fp=per_class,
            fn=per_class,
            total=torch.tensor(0),
        )

    def sums(self, statistics: Mapping[str, Any]) -> dict[str, Tensor]:
        """Match one image's segments to classes.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            ``tp``, ``fp``, ``fn``: ``(C,)`` int64 pixels; ``total``: the labelled pixels.
        """
        histogram = self._histogram(statistics)
        counts = matched_counts(histogram, self.variant, self.background)
        return {**counts._asdict(), "total": histogram.sum()}

    def _counts(self, sums: Mapping[str, Tensor]) -> tuple[MatchedCounts, Tensor]:
        return MatchedCounts(sums["tp"], sums["fp"], sums["fn"]), sums["total"]


class ImageMatchedMeanIoU(_MeanIoU, _ImageMatched):
    """Mean IoU with the segments of each image matched to classes: DiffSeg's protocol.

    True and false positives and false negatives are summed over the set, then IoU is taken per
    class and averaged over the classes that occur or are matched (paper, section 4;
    ``hungarian_matching`` in google/diffseg, diffseg/utils.py). Segment ids mean nothing beyond
    their image, so this is not comparable with the dataset-matched protocol.

    Args:
        num_classes: C.
        variant: ``"original"`` for published figures; ``"tie_free"`` leaves segments without
            overlap unmatched and does not depend on ids. See
            :func:`diffsegkit.metrics.functional.match_segments`.
        ignore_index: The target's label of pixels that count nowhere; None if there are none.
        background: The class that may have many segments, as DiffCut evaluates Pascal VOC,
            Pascal Context and COCO-Object; None for none. See
            :func:`diffsegkit.metrics.functional.matched_counts`.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> import torch
        >>> metric = ImageMatchedMeanIoU(num_classes=2)
        >>> preds = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 1]]])
        >>> metric.update(preds, torch.tensor([[[1, 1, 1, 0]], [[0, 0, 0, 1]]]))
        >>> metric.compute()
        tensor(0.7750, dtype=torch.float64)
        >>> metric.class_scores()
        tensor([0.8000, 0.7500], dtype=torch.float64)
    """

    def __init__(
        self,
        num_classes: int,
        variant: Variant = "original",
        ignore_index: int | None = -1,
        background: int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, variant, ignore_index, background, **kwargs)


class ImageMatchedAccuracy(_Accuracy, _ImageMatched):
    """Pixel accuracy with the segments of each image matched to classes: DiffSeg's protocol.

    Share of the set's labelled pixels that lie in the segment matched to their class (paper,
    section 4; ``hungarian_matching`` in google/diffseg, diffseg/utils.py).

    Args:
        num_classes: C.
        variant: ``"original"`` for published figures; ``"tie_free"`` does not depend on ids. See
            :func:`diffsegkit.metrics.functional.match_segments`.
        ignore_index: The target's label of pixels that count nowhere; None if there are none.
        background: The class that may have many segments, as DiffCut evaluates Pascal VOC,
            Pascal Context and COCO-Object; None for none. See
            :func:`diffsegkit.metrics.functional.matched_counts`.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> import torch
        >>> metric = ImageMatchedAccuracy(num_classes=2)
        >>> metric(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 0]]))
        tensor(0.7500, dtype=torch.float64)
    """

    def __init__(
        self,
        num_classes: int,
        variant: Variant = "original",
        ignore_index: int | None = -1,
        background: int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, variant, ignore_index, background, **kwargs)


class _DatasetMatched(_HistogramMetric):
    """Matches clusters, whose ids mean the same in every image, once for the set."""

    confusion: Tensor

    def __init__(
        self,
        num_classes: int,
        num_clusters: int | None = None,
        ignore_index: int | None = -1,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, ignore_index, **kwargs)
        self.num_clusters = (
            self.num_classes if num_clusters is None else check_number(num_clusters, "num_clusters")
        )
        self._width = max(self.num_classes, self.num_clusters)
        self.add_sums(
            f"dataset-matched {self.statistic} clusters={self.num_clusters}",
            confusion=torch.zeros(self.num_classes, self._width, dtype=torch.int64),
        )

    def measure(self, preds: Tensor, target: Tensor) -> dict[str, Any]:
        """Count the pixels that each class shares with each cluster in one image.

        Args:
            preds: ``(H, W)`` integer cluster ids, below ``num_clusters``.
            target: ``(H, W)`` classes 0..C−1, or ``ignore_index``.

        Returns:
            ``shape``: [C, K], and ``cells``: [class, cluster, pixels] wherever there are pixels.

        Raises:
            TypeError: If a map is not a tensor of integers.
            ValueError: If the shapes differ, an id is negative or at least ``num_clusters``, or
                a label is neither a class nor ``ignore_index``.
        """
        ids = check_labels(preds, "preds")
        if ids.numel():
            self._check_ids(int(ids.max()))
        return super().measure(preds, target)

    def sums(self, statistics: Mapping[str, Any]) -> dict[str, Tensor]:
        """One image's part of the contingency matrix.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            ``confusion``: ``(C, max(C, num_clusters))`` int64 pixels.

        Raises:
            ValueError: If there is an id of at least ``num_clusters``.
        """
        histogram = self._histogram(statistics)
        used = histogram.any(0).nonzero()
        width = histogram.shape[1]
        # A histogram wider than the classes ends with the highest id.
        if width > self.num_classes:
            self._check_ids(width - 1)
        elif len(used):
            self._check_ids(int(used.max()))
        confusion = histogram.new_zeros(self.num_classes, self._width)
        confusion[:, :width] = histogram
        return {"confusion": confusion}

    def _check_ids(self, highest: int) -> None:
        if highest >= self.num_clusters:
            raise ValueError(
                f"Expected argument `preds` to hold cluster ids below {self.num_clusters}, the "
                f"number of clusters, but got {highest}. Ids must mean the same in every image; "
                "raise `num_clusters`, or use the image-matched metrics."
            )

    def _counts(self, sums: Mapping[str, Tensor]) -> tuple[MatchedCounts, Tensor]:
        return matched_counts(sums["confusion"]), sums["confusion"].sum()


class DatasetMatchedMeanIoU(_MeanIoU, _DatasetMatched):
    """Mean IoU with the clusters matched to classes once for the whole set.

    The protocol of PiCIE (Cho et al., CVPR 2021) and STEGO (Hamilton et al., ICLR 2022): a
    cluster id means the same in every image. Pixels of clusters that no class takes are false
    negatives.

    Args:
        num_classes: C.
        num_clusters: How many cluster ids there are; without it, as many as classes.
        ignore_index: The target's label of pixels that count nowhere; None if there are none.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> import torch
        >>> metric = DatasetMatchedMeanIoU(num_classes=2)
        >>> preds = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 1]]])
        >>> metric.update(preds, torch.tensor([[[1, 1, 1, 0]], [[0, 0, 0, 1]]]))
        >>> metric.compute()
        tensor(0.4500, dtype=torch.float64)
    """

    def __init__(
        self,
        num_classes: int,
        num_clusters: int | None = None,
        ignore_index: int | None = -1,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, num_clusters, ignore_index, **kwargs)


class DatasetMatchedAccuracy(_Accuracy, _DatasetMatched):
    """Pixel accuracy with the clusters matched to classes once for the whole set.

    The protocol of PiCIE (Cho et al., CVPR 2021) and STEGO (Hamilton et al., ICLR 2022): a
    cluster id means the same in every image.

    Args:
        num_classes: C.
        num_clusters: How many cluster ids there are; without it, as many as classes.
        ignore_index: The target's label of pixels that count nowhere; None if there are none.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> import torch
        >>> metric = DatasetMatchedAccuracy(num_classes=2)
        >>> metric(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 0]]))
        tensor(0.7500, dtype=torch.float64)
    """

    def __init__(
        self,
        num_classes: int,
        num_clusters: int | None = None,
        ignore_index: int | None = -1,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(num_classes, num_clusters, ignore_index, **kwargs)
