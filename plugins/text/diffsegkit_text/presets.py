"""Complete configurations."""

from dataclasses import replace

from diffsegkit.presets import AFFINITY, DIFFSEG_SD14, part

# As the original's demo (google/diffseg, diffseg.ipynb) names segments: BLIP's caption is the
# prompt, its nouns are the candidates, and what is segmented is the prompted model's attention.
# The demo merges with thresholds of 0.9 and refines with K-means; here merging is that of
# diffseg-sd14, so that the two differ in nothing but prompt and names.
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
    summary="affinity, segments named by CLIP, which the first use fetches; give --namer.names.",
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
