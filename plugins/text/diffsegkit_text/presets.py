"""Complete configurations."""

from dataclasses import replace

from diffsegkit.presets import AFFINITY, DIFFSEG_SD14, part

# The original's demo of semantics: BLIP's caption is the prompt, its nouns are the candidates, and
# the attention of the prompted model is what is segmented.
NAMED_SD14 = replace(
    DIFFSEG_SD14,
    summary="The paper with names: nouns of BLIP's caption, by Stable Diffusion's cross-attention.",
    source=part(
        "diffsegkit_text.CaptionedSource",
        source=part(
            "diffsegkit.sources.StableDiffusionSource",
            model="CompVis/stable-diffusion-v1-4",
            cross=True,
        ),
    ),
    namer=part("diffsegkit_text.CrossAttentionNamer"),
)

# Segments by colour and texture, so that nothing but CLIP is fetched; names are asked for.
CLIP_AFFINITY = replace(
    AFFINITY,
    summary="affinity with segments named by CLIP; give --namer.names.",
    namer=part(
        "diffsegkit_text.CLIPNamer",
        names=[
            "person",
            "animal",
            "vehicle",
            "building",
            "plant",
            "sky",
            "water",
            "ground",
            "furniture",
            "food",
        ],
    ),
    requires=("transformers", "huggingface_hub"),
    extra="diffsegkit-text[models]",
)
