"""Assigners: from proposals to pixels."""

from diffsegkit.assigners.argmax import ArgmaxAssigner

__all__ = ["ArgmaxAssigner"]
