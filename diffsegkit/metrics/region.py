"""Agreement of segmentations with annotators' regions, averaged over images."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics.functional import clustering
from torchmetrics.functional.clustering.utils import calculate_pair_cluster_confusion_matrix

from diffsegkit.metrics.functional.checks import annotations, check_ignore_index, check_labels
from diffsegkit.metrics.functional.contingency import Contingency, count_overlaps
from diffsegkit.metrics.functional.region import (
    covering,
    information_distance,
    mean_over_tables,
    rand_index,
)
from diffsegkit.metrics.mean import MeanMetric

ClusteringName = Literal[
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_index",
    "homogeneity_score",
    "mutual_info_score",
    "normalized_mutual_info_score",
    "rand_score",
    "v_measure_score",
]
"""The clustering scores of torchmetrics that compare two label maps and suit photos.

``adjusted_mutual_info_score`` does not: it takes minutes for one.
"""


class RegionMetric(MeanMetric):
    """The mean over images of a score per annotator, averaged over the image's annotators.

    What is measured is one contingency table per annotator, the same for all such metrics. A new
    one defines :meth:`annotator_score`.

    Args:
        ignore_index: A region of the ground truth that does not count; None if there is none.
            Annotators and images with no pixel left are left out of the means.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        TypeError: If ``ignore_index`` is neither an integer nor None.
    """

    def __init__(self, ignore_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.ignore_index = check_ignore_index(ignore_index)
        self.add_mean(self._options())

    @property
    def statistic(self) -> str:
        """``contingency``, and the ignored label if there is one."""
        return "contingency" + (
            "" if self.ignore_index is None else f"-ignoring-{self.ignore_index}"
        )

    @abstractmethod
    def annotator_score(self, table: Contingency) -> float:
        """Score one image against one annotator.

        Args:
            table: The pixels that each region shares with each segment, at least one.

        Returns:
            The score.
        """

    def measure(self, preds: Tensor, target: Any) -> dict[str, Any]:  # noqa: ANN401
        """Count the pixels that segments and annotators' regions share in one image.

        Args:
            preds: ``(H, W)`` integer segment ids; their values do not matter.
            target: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.

        Returns:
            ``tables``: of each annotator, [region, segment, pixels] wherever there are pixels;
            regions and segments are numbered in the order of their ids.

        Raises:
            TypeError: If a map is not a tensor of integers.
            ValueError: If the shapes differ, or there is no annotator.
        """
        maps = annotations(check_labels(preds, "preds"), target)
        return {"tables": [count_overlaps(preds, one, self.ignore_index).cells() for one in maps]}

    def image_score(self, statistics: Mapping[str, Any]) -> float:
        """Mean over the annotators who have pixels; NaN if none has.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            The mean.
        """
        tables = [Contingency.from_cells(cells) for cells in statistics["tables"]]
        return mean_over_tables(self.annotator_score, tables)

    def _options(self) -> str:
        return ""


class SegmentationCovering(RegionMetric):
    """How well segments cover the annotators' regions, averaged over annotators and images.

    Arbeláez et al., "Contour Detection and Hierarchical Image Segmentation", PAMI 2011, section
    3.1.4; see :func:`diffsegkit.metrics.functional.segmentation_covering`.

    Args:
        ignore_index: A region of the ground truth that does not count; None if there is none.
            Annotators and images with no pixel left are left out of the means.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = SegmentationCovering()
        >>> metric(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]]))
        tensor(0.6250, dtype=torch.float64)
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    def annotator_score(self, table: Contingency) -> float:
        """Σ |R| / n · max IoU(R, S)."""
        return covering(table)


class ProbabilisticRandIndex(RegionMetric):
    """Share of pixel pairs on which segmentation and annotators agree, averaged over images.

    Unnikrishnan et al., "Toward Objective Evaluation of Image Segmentation Algorithms", PAMI
    2007; see :func:`diffsegkit.metrics.functional.probabilistic_rand_index`.

    Args:
        ignore_index: A region of the ground truth that does not count; None if there is none.
            Annotators and images with no pixel left are left out of the means.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = ProbabilisticRandIndex()
        >>> metric(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1]]))
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    def annotator_score(self, table: Contingency) -> float:
        """The Rand index."""
        return rand_index(table)


class VariationOfInformation(RegionMetric):
    """Bits that segmentation and annotators do not share, averaged over annotators and images.

    Meilă, "Comparing Clusterings: an Axiomatic View", ICML 2005; see
    :func:`diffsegkit.metrics.functional.variation_of_information`. Lower is better.

    Args:
        ignore_index: A region of the ground truth that does not count; None if there is none.
            Annotators and images with no pixel left are left out of the means.
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = VariationOfInformation()
        >>> metric(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 0]]))
        tensor(1., dtype=torch.float64)
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0

    def annotator_score(self, table: Contingency) -> float:
        """H(P) + H(T) − 2 I(P; T) in bits."""
        return information_distance(table)


class ClusteringScore(RegionMetric):
    """A clustering score of torchmetrics per image, averaged over annotators and images.

    Args:
        score: Its name in ``torchmetrics.functional.clustering``: ``adjusted_rand_score``,
            ``completeness_score``, ``fowlkes_mallows_index``, ``homogeneity_score``,
            ``mutual_info_score`` (nats), ``normalized_mutual_info_score``, ``rand_score`` or
            ``v_measure_score``. (``adjusted_mutual_info_score`` takes minutes per photo.)
        ignore_index: A region of the ground truth that does not count; None if there is none.
            Annotators and images with no pixel left are left out of the means.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If there is no such score.

    Example:
        >>> import torch
        >>> metric = ClusteringScore("adjusted_rand_score")
        >>> metric(torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 0, 1, 1]]))
        tensor(0.5714, dtype=torch.float64)
    """

    higher_is_better: bool = True

    def __init__(
        self,
        score: ClusteringName = "adjusted_rand_score",
        ignore_index: int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if score not in get_args(ClusteringName):
            raise ValueError(
                f"Expected argument `score` to be one of {get_args(ClusteringName)}, but got "
                f"{score!r}."
            )
        self._name = score
        super().__init__(ignore_index, **kwargs)

    def annotator_score(self, table: Contingency) -> float:
        """The score, of label vectors with these overlaps."""
        if self._name == "adjusted_rand_score":
            return _adjusted_rand(table)
        segments = table.segments.repeat_interleave(table.counts)
        regions = table.regions.repeat_interleave(table.counts)
        # torchmetrics builds a sparse tensor from numbers it has counted itself; saying that they
        # need no check keeps torch from warning.
        with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
            return float(getattr(clustering, self._name)(segments, regions))

    def _options(self) -> str:
        return self._name


def _adjusted_rand(table: Contingency) -> float:
    """The adjusted Rand score of torchmetrics, in float64.

    torchmetrics 1.9 multiplies numbers of pairs in int64, which can overflow from about 65,000
    pixels: label maps of 481×321 got −1.74 where the score is 0.40.
    """
    shape = (int(table.regions.max()) + 1, int(table.segments.max()) + 1)
    matrix = torch.zeros(shape, dtype=torch.float64)
    matrix[table.regions, table.segments] = table.counts.double()
    pairs = calculate_pair_cluster_confusion_matrix(contingency=matrix)
    (tn, fp), (fn, tp) = pairs.tolist()
    if not fn and not fp:
        return 1.0
    return float(2 * (tp * tn - fn * fp) / ((tp + fn) * (fn + tn) + (tp + fp) * (fp + tn)))
