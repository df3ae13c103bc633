"""Deterministic attention of the shapes of Stable Diffusion, with known regions.

One map per resolution, as if averaged over heads and layers already. The original DiffSeg was run
on exactly these arrays; NumPy's PCG64 stream is the same on every platform and version.
"""

import numpy as np

SIZES = (64, 32, 16, 8)


def region_attention(seed, regions=6, contrast=3.0, locality=4.0, noise=1.0):
    """Locations of one Voronoi cell attend to each other; with noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    centres = rng.random((regions, 2))
    maps = {}
    for size in SIZES:
        places = _places(size)
        region = np.square(places[:, None] - centres[None]).sum(-1).argmin(1)
        logits = (
            contrast * (region[:, None] == region[None])
            - locality * _squared_distances(places)
            + noise * rng.standard_normal((size * size, size * size))
        )
        maps[size] = _softmax(logits)
    return maps


def soft_attention(seed, dims=4, bandwidth=0.5, locality=1.0, noise=0.3, waves=3):
    """Regions that fade into each other: many rounds of merging, overlaps and chains."""
    rng = np.random.Generator(np.random.PCG64(seed))
    frequency = rng.integers(-waves, waves + 1, (dims, 4, 2))
    phase, amplitude = rng.random((dims, 4)) * 2 * np.pi, rng.standard_normal((dims, 4)) * 0.5
    maps = {}
    for size in SIZES:
        places = _places(size)
        angle = np.pi * np.einsum("dwc,nc->ndw", frequency, places) + phase
        feature = (amplitude * np.cos(angle)).sum(-1)
        squared = (feature**2).sum(-1)
        distance = np.maximum(squared[:, None] + squared[None] - 2 * feature @ feature.T, 0)
        logits = (
            -distance / (2 * bandwidth**2)
            - locality * _squared_distances(places)
            + noise * rng.standard_normal((size * size, size * size))
        )
        # Every entry stays representable in float16.
        maps[size] = _softmax(np.maximum(logits, logits.max(1, keepdims=True) - 7.0))
    return maps


GENERATORS = {"regions": region_attention, "soft": soft_attention}


def _places(size):
    axes = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    return (np.stack(axes, -1).reshape(-1, 2) + 0.5) / size


def _squared_distances(places):
    return np.square(places[:, None] - places[None]).sum(-1)


def _softmax(logits):
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32)
