"""Complete configurations."""

from dataclasses import replace

from diffsegkit.presets import AFFINITY, DIFFSEG_DINOV2S, part

# One merger for both, with nothing but its number of anchors and refinement set as the presets
# without it have them.
AUTOMATIC_DINOV2S = replace(
    DIFFSEG_DINOV2S,
    summary="diffseg-dinov2s with a threshold read off each image; untuned but for its rule.",
    merger=part("diffsegkit_walk.AutomaticKLMerger", points_per_side=8, refine=True),
)
AUTOMATIC_AFFINITY = replace(
    AFFINITY,
    summary="affinity with a threshold read off each image; untuned but for its rule.",
    merger=part("diffsegkit_walk.AutomaticKLMerger"),
)
