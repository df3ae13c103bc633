"""The preset that needs no weights."""

from diffsegkit.presets.preset import Preset, part

# One setting for all photos, chosen on half of 100 COCO photos and half of BSDS500 val (those
# with even numbers); the other half was looked at once, at the end. Thresholds from 1.2 to 1.6
# trade the Rand index, which wants more segments, for the accuracy of matching, which wants fewer.
AFFINITY = Preset(
    summary="Regions of the photo's own colour, texture and contours; no weights. Not the paper.",
    source=part("diffsegkit.sources.AffinitySource"),
    merger=part("diffsegkit.mergers.IterativeKLMerger", thresholds=[1.5, 1.5, 1.5]),
    antialias=True,
)
