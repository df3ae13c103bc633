"""Assigners: from proposals to pixels."""

from diffsegkit.assigners.argmax import ArgmaxAssigner
from diffsegkit.assigners.guidance import guide_images
from diffsegkit.assigners.refining import RefiningAssigner

__all__ = ["ArgmaxAssigner", "RefiningAssigner", "guide_images"]
