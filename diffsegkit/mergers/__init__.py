"""Mergers: many attention maps to a few proposals."""

from diffsegkit.mergers.anchors import AnchorSampler, GridAnchors, RandomAnchors
from diffsegkit.mergers.iterative_kl import IterativeKLMerger
from diffsegkit.mergers.kmeans import KMeansMerger

__all__ = [
    "AnchorSampler",
    "GridAnchors",
    "IterativeKLMerger",
    "KMeansMerger",
    "RandomAnchors",
]
