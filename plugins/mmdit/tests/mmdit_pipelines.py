"""Tiny pipelines of Stable Diffusion 3, 3.5 and FLUX.1 in the official layout, random weights.

They are written by diffusers' own pipelines, and have the files of the real ones but few channels.
"""

import json
import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

FAMILIES = ("sd3", "sd35", "schnell", "dev")
CLIP_TOKENS = 12
_WIDTH = 40  # of the text; CLIP's 16 + 16 are filled up with zeros


def make_pipeline(folder, family, *, seed=0, **changes):
    """Write a pipeline of a family, all parts included.

    Args:
        folder: Where to.
        family: One of FAMILIES.
        seed: Of the weights.
        changes: Arguments of the transformer that are to be others.
    """
    torch.manual_seed(seed)
    folder = Path(folder)
    write_clip_tokenizer(folder / "clip")
    write_t5_tokenizer(folder / "t5")
    clip, t5 = (
        CLIPTokenizer.from_pretrained(folder / "clip"),
        T5TokenizerFast.from_pretrained(folder / "t5"),
    )
    is_flux = family in ("schnell", "dev")
    make = flux if is_flux else stable_diffusion_3
    pipeline = make(family, clip, t5, changes)
    for module in (pipeline.transformer, pipeline.vae):
        for parameter in module.parameters():
            # Norms start at ones, and biases at zeros, as if they were not there.
            if parameter.ndim == 1:
                parameter.data += 0.3 * torch.randn_like(parameter)
    pipeline.save_pretrained(folder)
    return folder


def stable_diffusion_3(family, clip, t5, changes):
    arguments = {
        "sample_size": 16, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 4,
        "attention_head_dim": 8, "num_attention_heads": 3, "caption_projection_dim": 24,
        "joint_attention_dim": _WIDTH, "pooled_projection_dim": 32, "pos_embed_max_size": 12,
    }  # fmt: skip
    if family == "sd35":
        arguments |= {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)}
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**{**arguments, **changes}),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=CLIPTextModelWithProjection(clip_config()),
        tokenizer=clip,
        text_encoder_2=CLIPTextModelWithProjection(clip_config()),
        tokenizer_2=clip,
        text_encoder_3=T5EncoderModel(t5_config()),
        tokenizer_3=t5,
    )


def flux(family, clip, t5, changes):
    arguments = {
        "patch_size": 1, "in_channels": 64, "num_layers": 3, "num_single_layers": 2,
        "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": _WIDTH,
        "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6), "guidance_embeds": family == "dev",
    }  # fmt: skip
    schedule = {"shift": 3.0, "use_dynamic_shifting": True} if family == "dev" else {"shift": 1.0}
    return FluxPipeline(
        transformer=FluxTransformer2DModel(**{**arguments, **changes}),
        scheduler=FlowMatchEulerDiscreteScheduler(**schedule),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
        text_encoder=CLIPTextModel(clip_config()),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(t5_config()),
        tokenizer_2=t5,
    )


def vae(**arguments):
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
        **arguments,
    )


def clip_config():
    size = len(clip_vocabulary())
    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        projection_dim=16,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )


def t5_config():
    return T5Config(
        vocab_size=64, d_model=_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip


def clip_vocabulary():
    """Letters, letters at the end of a word, and CLIP's two marks; the end is the last."""
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    return {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}


def write_clip_tokenizer(folder):
    """A tokenizer of letters, in the files of the official ones."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    }  # fmt: skip
    config = {**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_t5_tokenizer(folder):
    """T5's own steps with letters and beginnings of words in place of SentencePiece's pieces."""
    folder.mkdir(parents=True)
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    vocabulary = [(piece, 0.0 if index < 3 else -2.0) for index, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {**marks, "tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
