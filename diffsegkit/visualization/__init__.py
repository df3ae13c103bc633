"""Pictures of segmentations."""

from diffsegkit.visualization.overlay import draw_overlay
from diffsegkit.visualization.palette import neighbour_colours

__all__ = ["draw_overlay", "neighbour_colours"]
