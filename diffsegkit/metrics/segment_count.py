"""How many segments came out."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from diffsegkit.metrics.functional.checks import check_labels
from diffsegkit.metrics.functional.contingency import close_gaps
from diffsegkit.metrics.mean import MeanMetric


class SegmentCount(MeanMetric):
    """Mean number of segments per image.

    Neither high nor low is good; it tells how finely a method segments.

    Args:
        kwargs: Of ``torchmetrics.Metric``.

    Example:
        >>> import torch
        >>> metric = SegmentCount()
        >>> metric(torch.tensor([[[0, 0, 7]], [[1, 1, 1]]]))
        tensor(1.5000, dtype=torch.float64)
    """

    plot_lower_bound: float = 0.0

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.add_mean()

    @property
    def statistic(self) -> str:
        """``segments``."""
        return "segments"

    def measure(self, preds: Tensor, target: Any = None) -> dict[str, Any]:  # noqa: ANN401, ARG002
        """Count the different ids of one image.

        Args:
            preds: ``(H, W)`` integer segment ids.
            target: Not used; other metrics take one.

        Returns:
            ``segments``: how many.

        Raises:
            TypeError: If the map is not a tensor of integers.
        """
        return {"segments": close_gaps(check_labels(preds, "preds").flatten())[1]}

    def image_score(self, statistics: Mapping[str, Any]) -> float:
        """How many segments one image has.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            The number.
        """
        return float(statistics["segments"])

    def update(self, preds: Tensor | Sequence[Tensor], target: Any = None) -> None:  # noqa: ANN401, ARG002
        """Take in a batch of images.

        Args:
            preds: ``(B, H, W)`` integer segment ids, a list of B maps ``(H, W)`` of any sizes, or
                ``(H, W)`` for one image.
            target: Not used; other metrics take one.

        Raises:
            TypeError: If a map is not a tensor of integers.
        """
        super().update(preds, None)
