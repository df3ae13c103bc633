"""Complete configurations."""

from dataclasses import replace

from diffsegkit.presets import DIFFSEG_DINOV2S, part

# The refiner's settings are the original's; which refiner, was chosen on photos of even number.
REFINED_DINOV2S = replace(
    DIFFSEG_DINOV2S,
    summary="diffseg-dinov2s with edges refined by PAMR; ours, tuned on 104 photos.",
    assigner=part("diffsegkit_refine.PAMRAssigner"),
)
