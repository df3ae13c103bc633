"""Complete configurations."""

from dataclasses import replace

from diffsegkit.presets import DIFFSEG_DINOV2S, part

# PAMR's iterations and dilations are the original's. That it is PAMR, and at 256 pixels, was chosen
# on 104 photos, those of diffseg-dinov2s; the README has what it gives on those and on the others.
REFINED_DINOV2S = replace(
    DIFFSEG_DINOV2S,
    summary="diffseg-dinov2s with edges refined by PAMR; ours, tuned on 104 photos.",
    assigner=part("diffsegkit_refine.PAMRAssigner"),
)
