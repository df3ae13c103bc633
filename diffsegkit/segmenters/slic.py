"""Superpixels."""

import torch
from torch import Tensor

from diffsegkit.segmenters.image_segmenter import ImageSegmenter
from diffsegkit.segmenters.scikit_image import segmentation_functions


class SLIC(ImageSegmenter):
    """SLIC superpixels (Achanta et al., TPAMI 2012), scikit-image's: local k-means in CIELAB.

    Args:
        num_segments: About how many.
        compactness: Larger means squarer segments; 10 suits CIELAB.
        sigma: Of the Gaussian that smooths the image first, in pixels.

    Raises:
        ComponentError: If scikit-image is not installed.
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> [segmentation] = SLIC(num_segments=6)(torch.rand(3, 40, 60))
        >>> segmentation.labels.shape
        torch.Size([40, 60])
    """

    def __init__(
        self, num_segments: int = 6, compactness: float = 10.0, sigma: float = 0.0
    ) -> None:
        super().__init__()
        if num_segments < 1 or compactness <= 0 or sigma < 0:
            raise ValueError(
                "Expected `num_segments` >= 1, `compactness` > 0 and `sigma` >= 0, but got "
                f"num_segments={num_segments}, compactness={compactness}, sigma={sigma}."
            )
        self._functions = segmentation_functions(type(self).__name__)
        self.num_segments = num_segments
        self.compactness = compactness
        self.sigma = sigma

    def label_map(self, image: Tensor) -> Tensor:
        """Segment one image.

        Args:
            image: ``(3, H, W)`` float32 RGB in [0, 1].

        Returns:
            ``(H, W)`` int64.
        """
        labels = self._functions.slic(
            image.permute(1, 2, 0).cpu().numpy(),
            n_segments=self.num_segments,
            compactness=self.compactness,
            sigma=self.sigma,
        )
        return torch.from_numpy(labels.astype("int64"))

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"num_segments={self.num_segments}, compactness={self.compactness}, sigma={self.sigma}"
        )
