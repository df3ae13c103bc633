"""What a data set gives for one image."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

IGNORE = -1
"""The label of pixels that count for nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its ground truth.

    Args:
        id: Unique in its data set, like a path without suffix (``"frankfurt_000000_000294"``,
            ``"sub/one"``); output files are named by it.
        path: Where the image was read.
        image: ``(3, H, W)`` RGB, uint8 or float32 in [0, 1], as
            :func:`~diffsegkit.images.load_image` gives it.
        annotations: Each ``(H, W)`` int64: class ids, or region ids of one annotator each;
            :data:`IGNORE` where a pixel counts for nothing. Empty without ground truth.
    """

    id: str
    path: Path
    image: Tensor
    annotations: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str) -> "Sample":
        """The same on another device; Lightning moves batches by this method."""
        annotations = tuple(annotation.to(device) for annotation in self.annotations)
        return replace(self, image=self.image.to(device), annotations=annotations)
