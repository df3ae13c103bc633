"""What a method without attention implements."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsegkit.errors import ImageError
from diffsegkit.images import ImageLike, load_images
from diffsegkit.segmentation import Segmentation


class ImageSegmenter(nn.Module, ABC):
    """A whole segmentation method: an image in, segments out, no parts to exchange.

    It is called like a :class:`~diffsegkit.Segmenter` and evaluated by the same loop. A subclass
    writes :meth:`label_map` and nothing else.

    Example:
        >>> import torch
        >>> class Halves(ImageSegmenter):
        ...     def label_map(self, image):
        ...         columns = torch.arange(image.shape[2]) >= image.shape[2] // 2
        ...         return columns.long().expand(image.shape[1:])
        >>> [segmentation] = Halves()(torch.rand(3, 4, 6))
        >>> segmentation.num_segments
        2
    """

    def __init__(self) -> None:
        super().__init__()
        self.configuration: Mapping[str, Any] = {}
        """Class and arguments, if it was built from a name."""

    @abstractmethod
    def label_map(self, image: Tensor) -> Tensor:
        """Segment one image.

        Args:
            image: ``(3, H, W)`` float32 RGB in [0, 1].

        Returns:
            ``(H, W)`` of any integer ids; those without pixels are left out afterwards.
        """

    @torch.no_grad()
    def forward(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        prompts: Sequence[str] | None = None,  # noqa: ARG002
        num_segments: Sequence[int] | None = None,  # noqa: ARG002
        batch_size: int = 1,  # noqa: ARG002
    ) -> list[Segmentation]:
        """Segment one image or many, one after another.

        Args:
            images: Of any kind :func:`diffsegkit.load_image` takes.
            prompts: Not looked at.
            num_segments: Not looked at.
            batch_size: Not looked at.

        Returns:
            One result per image, in their order, without proposals.

        Raises:
            ImageError: If there is no image, or one cannot be read.
            ValueError: If a label map has not the size of its image.
        """
        results = [self._segment(image) for image in load_images(images)]
        if not results:
            raise ImageError("Expected at least one image, but got none.")
        return results

    def _segment(self, image: Tensor) -> Segmentation:
        size = (image.shape[1], image.shape[2])
        pixels = image.float() / 255 if image.dtype == torch.uint8 else image
        start = time.perf_counter()
        labels = self.label_map(pixels)
        elapsed = (time.perf_counter() - start) * 1000
        if tuple(labels.shape) != size or labels.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} gave a label map of shape {tuple(labels.shape)} and "
                f"{labels.dtype}; expected integers of shape {size}."
            )
        _, without_gaps = torch.unique(labels, return_inverse=True)
        return Segmentation(without_gaps, None, size, times={"segment": elapsed})
