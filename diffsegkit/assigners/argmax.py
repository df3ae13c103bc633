"""DiffSeg's assignment: upsample the proposals, and the largest takes the pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.interfaces import AggregatedAttention, Assigner, Proposals

# Pixels at a time: few enough to stay in a cache, and a 100-megapixel photo needs no K maps of
# its size.
_STRIP_PIXELS = 2**18


class ArgmaxAssigner(Assigner):
    """Each pixel goes to the proposal with the largest probability there.

    Proposals are upsampled bilinearly, half-pixel centres (paper, section 3.4). Among equals the
    first wins. Memory beyond the label map does not grow with the number of proposals.

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
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"Expected argument `size` to be (height, width) > 0, got {size}.")
        return torch.stack([_upsampled_argmax(image.maps, size) for image in proposals])


def _upsampled_argmax(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Argmax over ``(K, h, w)`` maps upsampled to ``size``, a strip of rows at a time."""
    height, width = size
    if maps.dtype not in (torch.float32, torch.float64):
        maps = maps.float()
    # Bilinear interpolation is separable: all columns first, on the grid's few rows ...
    wide = functional.interpolate(maps[None], size=(maps.shape[1], width), mode="bilinear")[0]
    upper, lower, fraction = _row_neighbours(maps.shape[1], height, wide)
    labels = torch.zeros(size, dtype=torch.int64, device=maps.device)
    strip = max(1, _STRIP_PIXELS // width)
    for start in range(0, height, strip):
        rows = slice(start, start + strip)
        # ... then each row of pixels between the two rows of the grid around it.
        above, below, between = upper[rows], lower[rows], fraction[rows, None]
        best = torch.lerp(wide[0, above], wide[0, below], between)
        for index in range(1, len(maps)):
            value = torch.lerp(wide[index, above], wide[index, below], between)
            labels[rows].masked_fill_(value > best, index)
            torch.maximum(best, value, out=best)
    return labels


def _row_neighbours(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For ``new`` rows over ``old`` ones: the row above, the row below, and how far between."""
    position = (torch.arange(new, device=like.device, dtype=torch.float64) + 0.5) * old / new - 0.5
    position = position.clamp(0, old - 1)
    upper = position.floor().long()
    return upper, (upper + 1).clamp(max=old - 1), (position - upper).to(like.dtype)
