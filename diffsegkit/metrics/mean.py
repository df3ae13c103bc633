"""Metrics that are the mean of a score per image."""

from abc import abstractmethod
from collections.abc import Mapping
from math import isnan
from typing import Any

import torch
from torch import Tensor

from diffsegkit.metrics.base import ImageMetric


class MeanMetric(ImageMetric):
    """The mean over images of a score per image; images without a score are left out.

    A new metric defines ``statistic``, ``measure`` and :meth:`image_score`, and its ``__init__``
    ends with :meth:`add_mean`.
    """

    total: Tensor
    images: Tensor

    @abstractmethod
    def image_score(self, statistics: Mapping[str, Any]) -> float:
        """Score one image.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            The score; NaN if the image says nothing.
        """

    def add_mean(self, options: str = "") -> None:
        """Declare the states.

        Args:
            options: Whatever decides the score besides the class and what it measures.
        """
        self.add_sums(
            f"{type(self).__module__}.{type(self).__qualname__} {self.statistic} {options}",
            total=torch.tensor(0.0, dtype=torch.float64),
            images=torch.tensor(0),
        )

    def sums(self, statistics: Mapping[str, Any]) -> dict[str, Tensor]:
        """Score one image.

        Args:
            statistics: What ``measure`` gave, or what JSON made of it.

        Returns:
            ``total``: the score, float64, and ``images``: 1; both 0 if the image says nothing.
        """
        score = self.image_score(statistics)
        nothing = isnan(score)
        return {
            "total": torch.tensor(0.0 if nothing else score, dtype=torch.float64),
            "images": torch.tensor(0 if nothing else 1),
        }

    def reduce(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Mean over the images that say something; NaN if none does."""
        return sums["total"] / sums["images"]
