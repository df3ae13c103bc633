"""Aggregators: attention of several grids to one."""

from diffsegkit.aggregators.resolution import ResolutionAggregator

__all__ = ["ResolutionAggregator"]
