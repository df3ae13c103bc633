"""Graph-based segmentation."""

import torch
from torch import Tensor

from diffsegkit.segmenters.image_segmenter import ImageSegmenter
from diffsegkit.segmenters.scikit_image import segmentation_functions


class Felzenszwalb(ImageSegmenter):
    """Felzenszwalb and Huttenlocher's graph-based segmentation (IJCV 2004), scikit-image's.

    Args:
        scale: Larger means larger segments.
        sigma: Of the Gaussian that smooths the image first, in pixels.
        min_size: Smaller segments are joined with a neighbour, in pixels.

    Raises:
        ComponentError: If scikit-image is not installed.
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> image = torch.zeros(3, 40, 60)
        >>> image[:, :, 30:] = 1
        >>> [segmentation] = Felzenszwalb(scale=100, sigma=0)(image)
        >>> segmentation.num_segments
        2
    """

    def __init__(self, scale: float = 1000.0, sigma: float = 0.8, min_size: int = 20) -> None:
        super().__init__()
        if scale <= 0 or sigma < 0 or min_size < 0:
            raise ValueError(
                "Expected `scale` > 0, `sigma` >= 0 and `min_size` >= 0, but got "
                f"scale={scale}, sigma={sigma}, min_size={min_size}."
            )
        self._functions = segmentation_functions(type(self).__name__)
        self.scale = scale
        self.sigma = sigma
        self.min_size = min_size

    def label_map(self, image: Tensor) -> Tensor:
        """Segment one image.

        Args:
            image: ``(3, H, W)`` float32 RGB in [0, 1].

        Returns:
            ``(H, W)`` int64.
        """
        labels = self._functions.felzenszwalb(
            image.permute(1, 2, 0).cpu().numpy(),
            scale=self.scale,
            sigma=self.sigma,
            min_size=self.min_size,
        )
        return torch.from_numpy(labels.astype("int64"))

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"scale={self.scale}, sigma={self.sigma}, min_size={self.min_size}"
