"""DiffSeg's assignment: upsample the proposals, and the largest takes the pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention, Assigner, Proposals

# A tile spans this many cells of the grid, and at least this many pixels: small enough that few
# proposals can win in it, large enough to be worth a call.
_TILE_CELLS = 4
_TILE_PIXELS = 64


class ArgmaxAssigner(Assigner):
    """Each pixel goes to the proposal with the largest probability there.

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
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"Expected argument `size` to be (height, width) > 0, got {size}.")
        return torch.stack([_upsampled_argmax(image.maps, size) for image in proposals])


def _upsampled_argmax(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Argmax over ``(K, h, w)`` maps upsampled to ``size``, a tile at a time.

    Bilinear interpolation never leaves the range of the values between which it interpolates. So
    in a tile only those proposals can win whose largest value around it is not below what some
    other proposal has everywhere around it; most often that is a few, or one.
    """
    if maps.dtype not in (torch.float32, torch.float64):
        maps = maps.float()
    upper, lower, down = _neighbours(maps.shape[1], size[0], maps)
    left, right, across = _neighbours(maps.shape[2], size[1], maps)
    labels = torch.empty(size, dtype=torch.int64, device=maps.device)
    for columns in _tiles(maps.shape[2], size[1]):
        # Separable: the tile's columns first, on the grid's few rows ...
        wide = torch.lerp(maps[..., left[columns]], maps[..., right[columns]], across[columns])
        highest, lowest = wide.amax(2), wide.amin(2)
        for rows in _tiles(maps.shape[1], size[0]):
            above, below = upper[rows], lower[rows]
            around = slice(int(above[0]), int(below[-1]) + 1)
            floor = lowest[:, around].amin(1).max()
            able = (highest[:, around].amax(1) >= floor).nonzero().flatten().tolist()
            # ... then each row of pixels between the two rows of the grid around it.
            tile = labels[rows, columns].fill_(able[0])
            if len(able) == 1:
                continue
            between = down[rows, None]
            best = torch.lerp(wide[able[0], above], wide[able[0], below], between)
            for index in able[1:]:
                value = torch.lerp(wide[index, above], wide[index, below], between)
                tile.masked_fill_(value > best, index)
                torch.maximum(best, value, out=best)
    return labels


def _tiles(cells: int, pixels: int) -> list[slice]:
    """Cut one axis of ``pixels`` over ``cells`` into tiles."""
    step = max(_TILE_PIXELS, _TILE_CELLS * pixels // cells)
    return [slice(start, min(start + step, pixels)) for start in range(0, pixels, step)]


def _neighbours(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For ``new`` pixels over ``old`` cells: the cell before, the one after, how far between."""
    # On the CPU, because not every device has float64.
    position = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    position = position.clamp(0, old - 1)
    before = position.floor().long()
    after = (before + 1).clamp(max=old - 1)
    return before.to(like.device), after.to(like.device), (position - before).to(like)
