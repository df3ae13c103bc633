"""Complete configurations of the methods."""

from typing import Any

from diffsegkit.presets import Part, Preset, part

# SSD-1B, the attention of the last down block's last self-attention layer as features, timestep
# 50 with noise of seed 42, 1024 pixels, alpha 10, tau 0.5, prototypes at 128 x 128: the paper's
# (section 4; eval_diffcut.py and ldm.py in PaulCouairon/DiffCut). Its noise comes from a GPU's
# generator, ours from the CPU's, so that the noise is another one; and it squashes photos.
DIFFCUT_SSD1B = Preset(
    summary="DiffCut: recursive normalised cuts of SSD-1B's features; settings of the paper.",
    source=part(
        "diffsegkit.sources.StableDiffusionSource",
        model="segmind/SSD-1B",
        variant="fp16",
        timestep=50,
        noise=True,
        seed=42,
        layers=[],
        features=["down_blocks.2.*.attn1"],
    ),
    aggregator=part("diffsegkit_ncut.FeatureAffinityAggregator"),
    merger=part("diffsegkit_ncut.RecursiveNcutMerger"),
    assigner=part("diffsegkit_ncut.PrototypeAssigner"),
    image_size=1024,
    resize="square",
    requires=("diffusers", "transformers"),
    extra="diffsegkit[sd]",
)

# 518 pixels are the size DINOv2 was trained for at the end: 37 x 37 patches of 14.
_DINOV2: dict[str, Any] = {
    "image_size": 518,
    "antialias": True,
    "requires": ("transformers", "huggingface_hub"),
    "extra": "diffsegkit[vit]",
}


def _keys(layers: list[int]) -> Part:
    return part(
        "diffsegkit.sources.VisionTransformerSource",
        model="facebook/dinov2-small",
        layers=[-1],
        features="key",
        feature_layers=layers,
    )


# Keys of the upper four layers; tau and min_share were chosen on 104 photos of even number.
# experiments/README.md has what they give on those and on the others.
NCUT_DINOV2S = Preset(
    summary="Recursive normalised cuts of keys of DINOv2 small; ours, tuned on 104 photos.",
    source=_keys([-4, -3, -2, -1]),
    merger=part(
        "diffsegkit_ncut.RecursiveNcutMerger", tau=0.17, min_share=0.03, feature_maps="all"
    ),
    **_DINOV2,
)

# As NCUT_DINOV2S; max_value was chosen on the same 104 photos.
KWAY_DINOV2S = Preset(
    summary="A direct K-way normalised cut of keys of DINOv2 small; ours, tuned on 104 photos.",
    source=_keys([-4, -3, -2, -1]),
    merger=part("diffsegkit_ncut.KWayNcutMerger", max_value=0.15, feature_maps="all"),
    **_DINOV2,
)

# The papers' settings but for the model, which is DINO there, and tau: cosines of DINOv2's keys lie
# so high that the papers' 0.2 and 0.15 link everything. Of 0.75 to 0.9 the best on the same photos.
TOKENCUT_DINOV2S = Preset(
    summary="TokenCut on keys of DINOv2 small (DINO in the paper): one object and the rest.",
    source=_keys([-1]),
    merger=part("diffsegkit_ncut.TokenCutMerger", tau=0.9),
    **_DINOV2,
)
MASKCUT_DINOV2S = Preset(
    summary="MaskCut on keys of DINOv2 small (DINO in the paper): up to three objects.",
    source=_keys([-1]),
    merger=part("diffsegkit_ncut.MaskCutMerger", tau=0.9),
    **_DINOV2,
)
