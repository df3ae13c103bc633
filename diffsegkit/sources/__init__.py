"""Attention sources: the part that knows the backbone."""

from diffsegkit.sources.affinity import AffinitySource

__all__ = ["AffinitySource"]
