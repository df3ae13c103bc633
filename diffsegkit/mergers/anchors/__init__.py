"""Anchor samplers: where merging starts."""

from diffsegkit.mergers.anchors.grid import GridAnchors
from diffsegkit.mergers.anchors.random import RandomAnchors
from diffsegkit.mergers.anchors.sampler import AnchorSampler

__all__ = ["AnchorSampler", "GridAnchors", "RandomAnchors"]
