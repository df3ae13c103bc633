"""Complete configurations of the methods."""

from dataclasses import replace

from diffsegkit.presets import Preset, part

_SOURCE = "diffsegkit_mmdit.StableDiffusion3Source"
_THRESHOLDS = part("diffsegkit.mergers.IterativeKLMerger", thresholds=[1.1] * 3)

# Block 9, noise of 8 of 28 steps, the empty prompt without T5, photos squashed to 1024 x 1024, the
# 77 tokens of CLIP, one round of merging: configs/eval_unsup.yaml and seg4diff_model_unsup.py in
# cvlab-kaist/Seg4Diff. 0.035 is the threshold of its configuration; the code that is released does
# not read it, and has 0.1. Its noise is of no seed; ours is.
SEG4DIFF_SD3 = Preset(
    summary="Seg4Diff on Stable Diffusion 3: text tokens as proposals; settings of its authors.",
    source=part(
        _SOURCE,
        model="stabilityai/stable-diffusion-3-medium-diffusers",
        layers=[9],
        proposals="clip",
    ),
    merger=part("diffsegkit_mmdit.SourceProposalsMerger", threshold=0.035),
    image_size=1024,
    resize="square",
    requires=("diffusers", "transformers"),
    extra="diffsegkit[sd]",
)

# The paper has figures for it, but neither it nor the code says which block they are of: 9 is that
# of Stable Diffusion 3.
SEG4DIFF_SD35 = replace(
    SEG4DIFF_SD3,
    summary="Seg4Diff on Stable Diffusion 3.5 medium; its block here is untuned.",
    source=part(
        _SOURCE, model="stabilityai/stable-diffusion-3.5-medium", layers=[9], proposals="clip"
    ),
)

# DiffSeg's merging on attention between locations. Nobody has published thresholds: 1.1 is that of
# Stable Diffusion 1.4, ours here, untuned.
DIFFSEG_SD3 = replace(
    SEG4DIFF_SD3,
    summary="DiffSeg's merging on Stable Diffusion 3; its block and thresholds here are untuned.",
    source=part(_SOURCE, model="stabilityai/stable-diffusion-3-medium-diffusers", layers=[9]),
    merger=_THRESHOLDS,
    resize="crop",
)
DIFFSEG_FLUX = replace(
    DIFFSEG_SD3,
    summary="DiffSeg's merging on FLUX.1 [schnell]; its blocks and thresholds here are untuned.",
    source=part("diffsegkit_mmdit.FluxSource", model="black-forest-labs/FLUX.1-schnell"),
)
