"""Presets on the self-attention of vision transformers: weights from the hub, no diffusion."""

from typing import Any

from diffsegkit.presets.preset import Part, Preset, part


def _merger(threshold: float) -> Part:
    # DiffSeg has 3 rounds of one threshold, 16 anchors a side, and refinement in its demo only.
    # 8 anchors a side, one in every 4 or 5 patches along an axis, keep small segments from
    # anchors that only few maps resemble.
    return part(
        "diffsegkit.mergers.IterativeKLMerger",
        thresholds=[threshold] * 3,
        points_per_side=8,
        refine=True,
    )


def _source(model: str) -> Part:
    # Keys compared with each other, in the upper two thirds of the 12 layers. The temperature is
    # that at which their attention is about as sharp as the model's own.
    return part(
        "diffsegkit.sources.VisionTransformerSource",
        model=model,
        layers=list(range(-8, 0)),
        facet="kk",
        temperature=2.5,
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
    merger=_merger(0.25),
    **_COMMON,
)

# Nobody published a threshold for it. The small model's: keys of both have heads of 64 channels.
DIFFSEG_DINOV2B = Preset(
    summary="As diffseg-dinov2s, with DINOv2 base; its threshold is the small one's, untuned.",
    source=_source("facebook/dinov2-base"),
    merger=_merger(0.25),
    **_COMMON,
)

# Nobody published a threshold for it, and the hub gives its weights only to those who accept its
# licence. Patches of 16 pixels: 32 x 32 of them.
DIFFSEG_DINOV3S = Preset(
    summary="As diffseg-dinov2s, with DINOv3 small (gated on the hub); untuned.",
    source=_source("facebook/dinov3-vits16-pretrain-lvd1689m"),
    merger=_merger(0.25),
    **_COMMON | {"image_size": 512},
)
