"""What a file in the layout of Stable Diffusion's publishers holds, by its tensors' names.

CompVis and Stability AI put the UNet under ``model.diffusion_model.``, the autoencoder under
``first_stage_model.``, and what reads the prompts under ``cond_stage_model.`` or, in SDXL,
``conditioner.embedders.``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from diffsegkit.errors import WeightsError

UNET = "model.diffusion_model."
"""Of the UNet's tensors."""

VAE_ENCODER = ("first_stage_model.encoder.", "first_stage_model.quant_conv.")
"""Of those tensors of the autoencoder that encode an image."""

TEXT_ENCODERS = {
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""Of the text encoders' tensors, by the encoders' names in diffusers."""

OPEN_CLIP = ("cond_stage_model.model.", "conditioner.embedders.1.model.")
"""Of those text encoders that are OpenCLIP's, and not OpenAI's."""

_PARTS = {
    "UNet": (UNET,),
    "autoencoder": VAE_ENCODER,
    "text encoder": TEXT_ENCODERS["text_encoder"],
}
# The cross-attention to a text of so many dimensions tells the families apart. SDXL has none at
# its first level.
_TEXT_DIMENSIONS = tuple(
    f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in (1, 4)
)
_FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_FIRST = f"{UNET}input_blocks.0.0.weight"
# Playground 2.5 is SDXL's architecture with a scaling of its own for the latent.
_OTHER_SCALING = "edm_mean"


def check_parts(path: str, names: Iterable[str]) -> None:
    """Raise unless a file has all parts of a Stable Diffusion.

    Args:
        path: The file, for the message.
        names: Of its tensors.

    Raises:
        WeightsError: If a part is not there; the message says what the file looks like.
    """
    names = list(names)
    missing = [
        part for part, prefixes in _PARTS.items() if not any(n.startswith(prefixes) for n in names)
    ]
    if missing:
        raise WeightsError(
            f"Expected {path!r} to hold a whole Stable Diffusion (model.diffusion_model.*, "
            "first_stage_model.*, and cond_stage_model.* or conditioner.*), but "
            f"{_describe(names, missing)}; name a file with all parts, a folder, or a model of "
            "the hub."
        )


def find_family(shapes: Mapping[str, list[int]]) -> str | None:
    """The family whose published configurations belong to a file.

    Args:
        shapes: Of its tensors, by name.

    Returns:
        ``"sd1"``, ``"sd2"``, ``"sdxl"`` (also SSD-1B's, see :func:`unet_variety`), or None for
        any other, such as SDXL's refiner, and models for inpainting, which take more channels.
    """
    first = shapes.get(_FIRST, [])
    if len(first) != 4 or first[1] != 4 or _OTHER_SCALING in shapes:
        return None
    text = next((shapes[name] for name in _TEXT_DIMENSIONS if name in shapes), [])
    return _FAMILIES.get(text[-1]) if text else None


def unet_variety(names: Iterable[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """How many transformer layers each block of a UNet has, as diffusers' arguments say it.

    SSD-1B and Segmind-Vega are SDXL with transformer layers taken out, block by block, and
    without attention in the middle.

    Args:
        names: Of the file's tensors.
        config: The UNet's configuration: its blocks, and how many layers each has.

    Returns:
        Arguments to put in place of the configuration's.
    """
    depths: dict[str, int] = defaultdict(int)
    has_middle = False
    for name in names:
        has_middle |= name.startswith(f"{UNET}middle_block.")
        # input_blocks.4.1.transformer_blocks.0, middle_block.1.transformer_blocks.0
        match = re.match(rf"{re.escape(UNET)}([a-z_.0-9]+)\.1\.transformer_blocks\.(\d+)\.", name)
        if match:
            depths[match[1]] = max(depths[match[1]], int(match[2]) + 1)
    layers, middle = config["layers_per_block"], depths["middle_block"]
    # Each level has its layers and what halves the grid; the first of all is a convolution.
    down = [
        [depths[f"input_blocks.{1 + level * (layers + 1) + layer}"] for layer in range(layers)]
        for level in range(len(config["down_block_types"]))
    ]
    up = [
        [depths[f"output_blocks.{level * (layers + 1) + layer}"] for layer in range(layers + 1)]
        for level in range(len(config["up_block_types"]))
    ]
    # The last on the way down also counts for the middle; a block without attention has any number.
    variety: dict[str, Any] = {
        "transformer_layers_per_block": [each if any(each) else middle or 1 for each in down],
        "reverse_transformer_layers_per_block": [each if any(each) else 1 for each in up],
    }
    if not middle:
        # diffusers' block of this name is one residual block here.
        variety["mid_block_type"] = "UNetMidBlock2D" if has_middle else None
    return variety


def _describe(names: list[str], missing: list[str]) -> str:
    """The end of a sentence: what a file without all parts is."""
    if any("lora_" in name or ".lora." in name for name in names):
        return "it is a LoRA, which changes a model and is none"
    if any(name.startswith(("down_blocks.", "encoder.down_blocks.")) for name in names):
        return "it is one component in the layout of diffusers, whose whole folder is needed"
    if any(name.startswith(("encoder.down.", "decoder.up.")) for name in names):
        return "it is an autoencoder alone"
    if len(missing) < len(_PARTS):
        return f"it has no {' and no '.join(missing)}"
    if not names:
        return "it has no tensors"
    return f"it has other tensors, such as {min(names)!r}"
