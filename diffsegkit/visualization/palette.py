"""Colours for segments, such that neighbours differ."""

import numpy as np
from numpy.typing import NDArray

# Twelve colours of similar strength and clearly different hue or lightness.
_PALETTE = np.array(
    [
        (230, 25, 75), (0, 130, 200), (60, 180, 75), (255, 225, 25), (145, 30, 180),
        (245, 130, 48), (70, 240, 240), (240, 50, 230), (0, 0, 128), (128, 128, 0),
        (250, 190, 212), (128, 0, 0),
    ],
    dtype=np.uint8,
)  # fmt: skip


def neighbour_colours(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Choose a colour per segment so that segments that touch get colours far apart.

    Larger segments choose first. Each takes the palette's colour that is furthest, in its worst
    case, from the colours of the neighbours that have one; among equals the least used.

    Args:
        labels: ``(H, W)`` ids 0..K-1.

    Returns:
        ``(K, 3)`` RGB.

    Example:
        >>> import numpy as np
        >>> left, right = neighbour_colours(np.array([[0, 1]]))
        >>> bool((left != right).any())
        True
    """
    area = np.bincount(labels.ravel())
    neighbours = _neighbours(labels, len(area))
    palette = _PALETTE.astype(np.float64)
    gaps = np.linalg.norm(palette[:, None] - palette[None], axis=-1)
    chosen = np.full(len(area), -1)
    used = np.zeros(len(palette))
    for label in np.argsort(-area, kind="stable"):
        around = [chosen[other] for other in neighbours[label] if chosen[other] >= 0]
        # Beyond a clear difference what counts is variety, not still more contrast.
        nearest = gaps[:, around].min(1).clip(max=150) if around else np.zeros(len(palette))
        chosen[label] = np.lexsort((used, -nearest))[0]
        used[chosen[label]] += 1
    colours: NDArray[np.uint8] = _PALETTE[chosen]
    return colours


def _neighbours(labels: NDArray[np.integer], number: int) -> list[set[int]]:
    """Which segments touch, by an edge of a pixel."""
    touching: list[set[int]] = [set() for _ in range(number)]
    for first, second in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        differs = first != second
        pairs = first[differs].astype(np.int64) * number + second[differs]
        for pair in np.unique(pairs):
            one, other = divmod(int(pair), number)
            touching[one].add(other)
            touching[other].add(one)
    return touching
