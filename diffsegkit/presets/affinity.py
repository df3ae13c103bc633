"""The preset that needs no weights."""

from diffsegkit.presets.preset import Preset, part

AFFINITY = Preset(
    summary="Colour, texture and position of the photo itself; no weights. Not the paper.",
    source=part("diffsegkit.sources.AffinitySource"),
    merger=part("diffsegkit.mergers.IterativeKLMerger", thresholds=[0.3, 0.3, 0.3]),
    antialias=True,
)
