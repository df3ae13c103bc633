"""Tiny pipelines of Stable Diffusion's families in the official layout, with random weights.

They have the blocks, the levels and the file names of the real ones, and few channels.
"""

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

FAMILIES = ("sd1", "sd2", "sdxl", "ssd1b")
# SD 1.x and 2.x have four levels; SDXL has three, and no attention at the first.
_DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
_UP = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
_XL_DOWN = ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2
_XL_UP = ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",)
_TEXT = 16
_COMMON = {
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 4,
}
_UNETS = {
    "sd1": {
        "block_out_channels": (8, 16, 16, 16), "down_block_types": _DOWN, "up_block_types": _UP,
        "attention_head_dim": 8, "cross_attention_dim": _TEXT, "sample_size": 64,
    },
    "sd2": {
        "block_out_channels": (8, 16, 16, 16), "down_block_types": _DOWN, "up_block_types": _UP,
        "attention_head_dim": (1, 2, 4, 4), "cross_attention_dim": _TEXT, "sample_size": 96,
        "use_linear_projection": True,
    },
    "sdxl": {
        "block_out_channels": (8, 16, 16), "down_block_types": _XL_DOWN,
        "up_block_types": _XL_UP, "attention_head_dim": (1, 2, 4),
        "cross_attention_dim": 2 * _TEXT, "sample_size": 128, "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2, 3), "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + _TEXT,
    },
}  # fmt: skip
# SSD-1B is SDXL with transformer layers taken out, block by block, and one residual block in the
# middle, which diffusers names so.
_UNETS["ssd1b"] = _UNETS["sdxl"] | {
    "transformer_layers_per_block": (1, (2, 2), (1, 1)),
    "reverse_transformer_layers_per_block": ((1, 1, 2), (2, 1, 1), 1),
    "mid_block_type": "UNetMidBlock2D",
}


def make_pipeline(folder, family, *, seed=0, variant=None, dtype=torch.float32):
    """Write a pipeline of a family as `diffusers` writes it, all parts included.

    Args:
        folder: Where to.
        family: One of FAMILIES.
        seed: Of the weights.
        variant: Such as "fp16", for the names of the weights' files.
        dtype: Of the weights.
    """
    torch.manual_seed(seed)
    folder = Path(folder)
    is_xl = family in ("sdxl", "ssd1b")
    unet = UNet2DConditionModel(**_COMMON, **_UNETS[family])
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=512,
        scaling_factor=0.13025 if is_xl else 0.18215,
        force_upcast=True,
    )
    for model, name in ((unet, "unet"), (vae, "vae")):
        _save(model, folder / name, variant, dtype)
    index = {
        "_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    classes = {"text_encoder": CLIPTextModel}
    if is_xl:
        classes["text_encoder_2"] = CLIPTextModelWithProjection
    for name, model_class in classes.items():
        write_tokenizer(folder / name.replace("text_encoder", "tokenizer"))
        _save(model_class(_text_config()), folder / name, variant, dtype)
        index[name] = ["transformers", model_class.__name__]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction" if family == "sd2" else "epsilon",
    ).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _save(model, folder, variant, dtype):
    # diffusers warns of its own Module.to.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder, variant=variant)


def _text_config():
    return CLIPTextConfig(
        vocab_size=len(vocabulary()),
        hidden_size=_TEXT,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=12,
        projection_dim=_TEXT,
        bos_token_id=len(vocabulary()) - 2,
        eos_token_id=len(vocabulary()) - 1,
        pad_token_id=len(vocabulary()) - 1,
    )


def vocabulary():
    """Letters, letters at the end of a word, and CLIP's two marks; the end is the last."""
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    return {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}


def write_tokenizer(folder):
    """A tokenizer of letters, in the files of the official ones."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 12})
    )
