"""Presets on the self-attention of vision transformers: weights from the hub, no diffusion."""

from typing import Any

from diffsegkit.presets.preset import Part, Preset, part

# All numbers are ours, chosen on half of 100 COCO photos and half of BSDS500 val (those with even
# numbers); experiments/README.md has what they give, and experiments/sweeps/dinov2s_attention.yaml
# what others give.
_THRESHOLD = 0.25


def _source(model: str) -> Part:
    # The upper two thirds of 12 layers. The temperature makes attention soft: with it, attention is
    # spread as over 640 of 1000 patches (the exponential of its entropy), and over 180 without.
    return part(
        "diffsegkit.sources.VisionTransformerSource",
        model=model,
        layers=list(range(-8, 0)),
        facet="kk",
        temperature=2.5,
    )


def _merger() -> Part:
    # Three rounds of one threshold, as in the paper. The paper has 16 anchors a side, of a grid of
    # 64 cells; here 8, of 37. Refinement is what the original's demo has.
    return part(
        "diffsegkit.mergers.IterativeKLMerger",
        thresholds=[_THRESHOLD] * 3,
        points_per_side=8,
        refine=True,
    )


# What presets of vision transformers share. 518 pixels are the size DINOv2 was trained for at the
# end (37 x 37 patches of 14).
_COMMON: dict[str, Any] = {
    "image_size": 518,
    "antialias": True,
    "requires": ("transformers", "huggingface_hub"),
    "extra": "diffsegkit[vit]",
}

DIFFSEG_DINOV2S = Preset(
    summary="Keys of DINOv2 small in place of Stable Diffusion; ours, tuned on 104 photos.",
    source=_source("facebook/dinov2-small"),
    merger=_merger(),
    **_COMMON,
)

# Nobody published a threshold for it. The small model's: keys of both have heads of 64 channels.
DIFFSEG_DINOV2B = Preset(
    summary="As diffseg-dinov2s, with DINOv2 base; its threshold is the small one's, untuned.",
    source=_source("facebook/dinov2-base"),
    merger=_merger(),
    **_COMMON,
)

# Nobody published a threshold for it, and the hub gives its weights only to those who accept its
# licence. Patches of 16 pixels: 32 x 32 of them.
DIFFSEG_DINOV3S = Preset(
    summary="As diffseg-dinov2s, with DINOv3 small (gated on the hub); untuned.",
    source=_source("facebook/dinov3-vits16-pretrain-lvd1689m"),
    merger=_merger(),
    **_COMMON | {"image_size": 512},
)
