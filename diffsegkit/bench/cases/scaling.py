"""How post-processing grows, one number at a time, with the built-in parts as they are."""

from collections.abc import Sequence

import torch

from diffsegkit.bench.case import Case, Size
from diffsegkit.bench.cases.post_processing import inputs, whole
from diffsegkit.bench.comparison import share_of_pixels

SIDES = (16, 32, 64, 96, 128)
"""Of the finest grid; Stable Diffusion's at 128 to 1024 pixels."""

POINTS_PER_SIDE = (4, 8, 16, 32)
"""Of the grid of anchors."""

IMAGES = (1, 2, 4, 8)
"""Of a batch."""


def _sizes(_: torch.device) -> Sequence[Size]:
    """Around the paper's 64 x 64 cells and 16 x 16 anchors, which are measured once."""
    points = [
        *((side**2, 256, 1) for side in SIDES),
        *((4096, points**2, 1) for points in POINTS_PER_SIDE),
        *((4096, 256, images) for images in IMAGES),
    ]
    return [
        {"tokens": tokens, "anchors": anchors, "images": images}
        for tokens, anchors, images in dict.fromkeys(points)
    ]


CASE = Case(_sizes, inputs, whole, share_of_pixels)
