"""DiffSeg's assignment: upsample the proposals, and the largest takes the pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention, Assigner, Proposals
from diffsegkit.kernels import upsampled_argmax


class ArgmaxAssigner(Assigner):
    """Each pixel goes to the proposal with the largest probability, or score, there.

    Proposals are upsampled bilinearly, half-pixel centres (paper, section 3.4). Among equals the
    first wins. No map is ever stored at the size of the image, so a photo of 100 megapixels needs
    little more memory than its label map.

    Example:
        >>> import torch
        >>> from diffsegkit import Proposals
        >>> left_and_right = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
        >>> ArgmaxAssigner()([Proposals(left_and_right)], (1, 4))
        tensor([[[0, 0, 1, 1]]])
    """

    def forward(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        *,
        aggregated: AggregatedAttention | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Assign every pixel of every image.

        Args:
            proposals: One per image, B in all.
            size: ``(H, W)`` in pixels.
            aggregated: Not looked at.

        Returns:
            ``(B, H, W)`` int64, indices into each image's proposals.

        Raises:
            ValueError: If ``size`` is not a pair of positive numbers.
        """
        return torch.stack([upsampled_argmax(image.compared, size) for image in proposals])
