"""Named, complete configurations, because thresholds only make sense for one backbone."""

from diffsegkit.presets.affinity import AFFINITY
from diffsegkit.presets.diffseg import DIFFSEG
from diffsegkit.presets.preset import Preset, part

__all__ = ["AFFINITY", "DIFFSEG", "Preset", "part"]
