"""Attention as the transitions of a random walk over the locations of an image."""

from diffsegkit_walk.anchors import TokenRankAnchors
from diffsegkit_walk.automatic import AutomaticKLMerger
from diffsegkit_walk.markov import MarkovAggregator, walk
from diffsegkit_walk.rank import token_rank
from diffsegkit_walk.thresholds import gap_threshold, otsu_threshold, quantile_threshold

__all__ = [
    "AutomaticKLMerger",
    "MarkovAggregator",
    "TokenRankAnchors",
    "gap_threshold",
    "otsu_threshold",
    "quantile_threshold",
    "token_rank",
    "walk",
]
