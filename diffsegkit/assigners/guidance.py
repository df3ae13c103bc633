"""The image, for assigners that look at it."""

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.errors import UsageError
from diffsegkit.interfaces import AggregatedAttention


def guide_images(
    aggregated: AggregatedAttention | None, who: str, size: tuple[int, int], max_side: int
) -> Tensor:
    """What the source saw, in the proportions of the label maps, for assigners to look at.

    The longer side is that of ``size``, but at most ``max_side``, and at most that of the image
    which the source saw: there is no finer detail than that. So photos of any size take bounded
    time and memory.

    Args:
        aggregated: What an assigner was given.
        who: The name of the assigner, for the message.
        size: ``(H, W)`` of the label maps, in pixels.
        max_side: In pixels.

    Returns:
        ``(B, 3, h, w)`` RGB in [0, 1], float32 (float64 if the images are), averaged where they
        shrink and bilinear where they grow.

    Raises:
        UsageError: If the images are not there.
        ValueError: If ``size`` is not a pair of positive numbers.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, SourceOutput
        >>> features, images = torch.rand(1, 8, 2, 3), torch.rand(1, 3, 28, 42)
        >>> output = SourceOutput([], features=[features], images=images)
        >>> aggregated = AggregatedAttention(torch.eye(6)[None], grid=(2, 3), source=output)
        >>> guide_images(aggregated, "MyAssigner", (400, 600), max_side=1024).shape
        torch.Size([1, 3, 28, 42])
        >>> guide_images(aggregated, "MyAssigner", (14, 21), max_side=1024).shape
        torch.Size([1, 3, 14, 21])
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"Expected argument `size` to be (height, width) > 0, but got {size}.")
    output = None if aggregated is None else aggregated.source
    if output is None or output.images is None:
        raise UsageError(
            f"{who} looks at the image, but got none; call it through a Segmenter, or give it the "
            "aggregated attention whose source has `images`."
        )
    images = output.images
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"Expected the images of the source to be of shape (B, 3, H, W), but got "
            f"{tuple(images.shape)}."
        )
    wide = images if images.dtype == torch.float64 else images.float()
    scale = min(1.0, max_side / max(size), max(images.shape[2:]) / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    if (height, width) == tuple(images.shape[2:]):
        return wide
    resized: Tensor = functional.interpolate(
        wide, size=(height, width), mode="bilinear", antialias=True
    )
    return resized
