"""Small attention made of random numbers, on any grid."""

import numpy as np
import torch
from PIL import Image

from diffsegkit import AggregatedAttention, AttentionMap


def random_probs(batch, locations, generator, sharpness=1.0, dtype=torch.float32):
    logits = torch.randn(batch, locations, locations, generator=generator, dtype=torch.float64)
    return torch.softmax(logits * sharpness, -1).to(dtype)


def random_map(grid, generator, batch=2, **kwargs):
    return AttentionMap(random_probs(batch, grid[0] * grid[1], generator, **kwargs), grid)


def region_attention(grid, generator, batch=1, regions=3, contrast=3.0, noise=0.5):
    """Locations of one random region attend to each other."""
    locations = grid[0] * grid[1]
    region = torch.randint(regions, (batch, locations), generator=generator)
    same = (region[:, :, None] == region[:, None]).double()
    wobble = torch.randn(same.shape, generator=generator, dtype=torch.float64)
    probs = torch.softmax(contrast * same + noise * wobble, -1).float()
    return AggregatedAttention(probs, grid)


def read_picture(path):
    """The pixels of a picture file, its handle closed."""
    with Image.open(path) as picture:
        return np.asarray(picture)
