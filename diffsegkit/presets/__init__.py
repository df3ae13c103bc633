"""Named, complete configurations, because thresholds only make sense for one backbone."""

from diffsegkit.presets.affinity import AFFINITY
from diffsegkit.presets.diffseg import DIFFSEG
from diffsegkit.presets.preset import Part, Preset, part
from diffsegkit.presets.stable_diffusion import (
    DIFFSEG_SD14,
    DIFFSEG_SD14_CITYSCAPES,
    DIFFSEG_SD21,
    DIFFSEG_SDXL,
    DIFFSEG_SSD1B,
    KMEANS_C_SD14,
)
from diffsegkit.presets.vision_transformers import (
    DIFFSEG_DINOV2B,
    DIFFSEG_DINOV2S,
    DIFFSEG_DINOV3S,
)

__all__ = [
    "AFFINITY",
    "DIFFSEG",
    "DIFFSEG_DINOV2B",
    "DIFFSEG_DINOV2S",
    "DIFFSEG_DINOV3S",
    "DIFFSEG_SD14",
    "DIFFSEG_SD14_CITYSCAPES",
    "DIFFSEG_SD21",
    "DIFFSEG_SDXL",
    "DIFFSEG_SSD1B",
    "KMEANS_C_SD14",
    "Part",
    "Preset",
    "part",
]
