"""Graphs with a known answer, and slow references that share nothing with the package."""

import itertools

import numpy as np
import torch

from diffsegkit import AggregatedAttention, SourceOutput


def blocks(sizes, between=0.0, generator=None):
    """An affinity of blocks: about 1 within, ``between`` across; (N, N) float64 and the block of
    each location.
    """
    of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    weights = torch.where(of[:, None] == of, 1.0, between).double()
    if generator is not None:
        noise = torch.rand(weights.shape, generator=generator, dtype=torch.float64)
        weights = weights * (0.8 + 0.1 * (noise + noise.mT))
    return weights, of


def vectors_of(of, noise=0.0, generator=None):
    """A unit vector per part, (N, C) float32."""
    features = torch.nn.functional.one_hot(of, int(of.max()) + 2).float()
    if noise:
        features = features + noise * torch.randn(features.shape, generator=generator)
    return features


def aggregated(features, grid=None, probs=None):
    """Features ((B, C, h, w), or a list of them) as a merger is given them."""
    maps = features if isinstance(features, list) else [features]
    grid = tuple(maps[-1].shape[2:]) if grid is None else grid
    number, batch = grid[0] * grid[1], len(maps[-1])
    probs = torch.eye(number).expand(batch, -1, -1) if probs is None else probs
    return AggregatedAttention(probs, grid, SourceOutput([], features=maps))


def same_partition(one, other):
    """Whether two label tensors say the same but for names."""
    pairs = {(int(a), int(b)) for a, b in zip(one.flatten(), other.flatten(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def dense_ncut(weights, side):
    """The normalised cut by its definition, with loops."""
    weights = np.asarray(weights, dtype=np.float64)
    inside, outside = np.flatnonzero(side), np.flatnonzero(~np.asarray(side))
    cut = sum(weights[i, j] for i, j in itertools.product(inside, outside))
    return cut / weights[inside].sum() + cut / weights[outside].sum()


def dense_recursive(weights, tau, least=1.0, splits=100):
    """DiffCut's recursion by SciPy's generalised solver, one threshold at a time."""
    from scipy.linalg import eigh

    weights = np.asarray(weights, dtype=np.float64)
    labels = np.zeros(len(weights), dtype=int)

    def cut(members):
        if len(members) < 2 or len(members) < 2 * least:
            return
        inner = weights[np.ix_(members, members)]
        degree = np.diag(inner.sum(1))
        vector = eigh(degree - inner, degree)[1][:, 1]
        if vector[np.abs(vector).argmax()] < 0:
            vector = -vector
        best, best_side = np.inf, None
        for threshold in np.linspace(0.99 * vector.min(), 0.99 * vector.max(), splits):
            side = vector > threshold
            if min(side.sum(), (~side).sum()) < least:
                continue
            cost = dense_ncut(inner, side)
            if cost < best:
                best, best_side = cost, side
        if best_side is None or best >= tau:
            return
        labels[members[best_side]] = labels.max() + 1
        cut(members[~best_side])
        cut(members[best_side])

    cut(np.arange(len(weights)))
    return torch.from_numpy(labels)
