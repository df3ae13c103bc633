"""The paper's settings, for attention of Stable Diffusion that somebody else extracts."""

from diffsegkit.presets.preset import Preset, part

DIFFSEG = Preset(
    summary="The paper's aggregator, merger and thresholds for COCO-Stuff; bring a --source.",
    source=None,
    merger=part("diffsegkit.mergers.IterativeKLMerger", thresholds=[1.1, 1.1, 1.1]),
    resize="crop",
)
