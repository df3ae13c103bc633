"""Agreement of boundaries over a set of images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffsegkit.metrics.base import ImageMetric
from diffsegkit.metrics.functional.boundary import BoundaryCounts, boundary_counts, check_tolerance


class BoundaryFMeasure(ImageMetric):
    """F-measure of the boundaries, from counts summed over the set: BSDS's boundary benchmark.

    Martin et al., "Learning to Detect Natural Image Boundaries", PAMI 2004; see
    :func:`diffsegkit.metrics.functional.boundary_counts`. Precision and recall are those of the
    whole set, not means over images.

    Args:
        tolerance: How far matched pixels may be apart, as a part of the image's diagonal.
        kwargs: Of ``torchmetrics.Metric``.

    Raises:
        ValueError: If the tolerance is not a number of at least 0.

    Example:
        >>> import torch
        >>> ours, theirs = torch.zeros(2, 8, 8, dtype=torch.int64)
        >>> ours[:, 4:], theirs[:4, 4:] = 1, 1
        >>> metric = BoundaryFMeasure()
        >>> metric(ours, theirs)
        tensor(0.4000, dtype=torch.float64)
        >>> metric.precision(), metric.recall()
        (tensor(0.3750, dtype=torch.float64), tensor(0.4286, dtype=torch.float64))
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0
    counts: Tensor
    images: Tensor

    def __init__(self, tolerance: float = 0.0075, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        check_tolerance(tolerance)
        self.tolerance = float(tolerance)
        self.add_sums(
            self.statistic,
            counts=torch.zeros(len(BoundaryCounts._fields), dtype=torch.int64),
            images=torch.tensor(0),
        )

    @property
    def statistic(self) -> str:
        """``boundary`` and the tolerance."""
        return f"boundary-{self.tolerance!r}"

    def measure(self, preds: Tensor, target: Any) -> dict[str, Any]:  # noqa: ANN401
        """Match the boundary pixels of one image.

        Args:
            preds: ``(H, W)`` integer segment ids.
            target: ``(H, W)`` integer region ids, ``(A, H, W)`` or A maps of A annotators.

        Returns:
            ``matched_pred``, ``total_pred``, ``matched_target`` and ``total_target``, pixels.

        Raises:
            TypeError: If a map is not a tensor of integers.
            ValueError: If the shapes differ or are not two-dimensional, or there is no annotator.
        """
        return boundary_counts(preds, target, self.tolerance)._asdict()

    def sums(self, statistics: Mapping[str, Any]) -> dict[str, Tensor]:
        """One image's counts.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            ``counts``: ``(4,)`` int64 in the order of ``BoundaryCounts``, and ``images``: 1.
        """
        counts = [statistics[name] for name in BoundaryCounts._fields]
        return {"counts": torch.tensor(counts), "images": torch.tensor(1)}

    def reduce(self, sums: Mapping[str, Tensor]) -> Tensor:
        """The F-measure; NaN without images."""
        return _scalar("f_measure", sums)

    def precision(self) -> Tensor:
        """Share of the segmentations' boundary pixels that are matched, over all processes."""
        return _scalar("precision", self._synced_sums())

    def recall(self) -> Tensor:
        """Share of the annotators' boundary pixels that are matched, over all processes."""
        return _scalar("recall", self._synced_sums())


def _scalar(name: str, sums: Mapping[str, Tensor]) -> Tensor:
    counts = BoundaryCounts(*sums["counts"].tolist())
    value = getattr(counts, name) if int(sums["images"]) else float("nan")
    return torch.tensor(value, dtype=torch.float64, device=sums["counts"].device)
