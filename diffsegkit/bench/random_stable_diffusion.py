"""Stable Diffusion 1.4 with random weights, on which neither time nor memory depends."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import torch


def write_folder(folder: Path) -> None:
    """Write 860 million parameters of the UNet, the VAE and the text encoder; 4 GB.

    Args:
        folder: Where to, in the official layout.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = Path(str(files("diffsegkit.sources.stable_diffusion"))) / "configs" / "sd1"
    torch.manual_seed(0)
    for model_class, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        model = model_class.from_config(model_class.load_config(configs, subfolder=name))
        model.save_pretrained(folder / name)
    text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder"))
    with _no_progress_bar():
        text_encoder.save_pretrained(folder / "text_encoder")
    shutil.copytree(configs / "scheduler", folder / "scheduler")
    _write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Transformers shows one even for a single file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _write_tokenizer(folder: Path) -> None:
    """As many tokens as CLIP has, its two marks in their places, and nothing to merge."""
    folder.mkdir(parents=True)
    begin, end = "<|startoftext|>", "<|endoftext|>"
    vocabulary = {f"token{index}</w>": index for index in range(49406)}
    vocabulary |= {begin: 49406, end: 49407}
    marks = {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": end}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
