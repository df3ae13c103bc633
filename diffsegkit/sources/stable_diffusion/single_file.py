"""Stable Diffusion's networks out of one ``.safetensors`` file with all parts."""

from __future__ import annotations

from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPTokenizer

from diffsegkit.errors import WeightsError
from diffsegkit.sources.stable_diffusion.checkpoint import (
    TEXT_ENCODERS,
    Checkpoint,
    frozen,
    reading,
)
from diffsegkit.sources.stable_diffusion.text import HubTokenizer, TextEncoder, Tokenizer
from diffsegkit.sources.stable_diffusion.vae import VAEEncoder
from diffsegkit.weights import ComponentFiles, ModelFiles, check_safetensors, find_model

# CLIP's tokens for where a text begins and ends. OpenAI's encoder (SD 1.x, the first of SDXL) pads
# with the end, OpenCLIP's (SD 2.x, the second of SDXL) with 0.
_BEGIN, _END = 49406, 49407

_TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.")
_PREFIXES = {"unet": ("model.diffusion_model.",), "vae": ("first_stage_model.",)}
# The cross-attention to a text of this many dimensions tells the families apart.
_KEYS_OF_TEXT = (
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
)
_FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


class SingleFileCheckpoint(Checkpoint):
    """One file in the layout of the original Stable Diffusion (CompVis, Stability AI).

    Args:
        path: The ``.safetensors`` file.
        config: Folder or hub id with the configurations in the layout of diffusers; None for
            those of the family that the file looks like.

    Raises:
        WeightsError: If the file is missing, damaged, or no Stable Diffusion.
    """

    def __init__(self, path: Path, config: str | None = None) -> None:
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"Expected a .safetensors file, but got {str(path)!r}: a {path.suffix} file can "
                "run code when it is read; convert it, or name a model of the hub."
            )
        check_safetensors(path)
        self.path = path
        shapes = self._shapes()
        family = _FAMILIES.get(next((shapes[key][1] for key in _KEYS_OF_TEXT if key in shapes), 0))
        if config is not None:
            self.folder = _configurations(config)
        elif family is not None:
            self.folder = Path(str(resources(__package__))) / "configs" / family
        else:
            raise WeightsError(
                f"{str(path)!r} has no UNet of Stable Diffusion 1.x, 2.x or XL in the layout of "
                "their publishers; if it is one of another size, its configurations must be named "
                "too: --source.config FOLDER."
            )

    def vae_encoder(self, dtype: torch.dtype) -> VAEEncoder:
        """The encoder of the autoencoder.

        Args:
            dtype: Of its weights.
        """
        model: VAEEncoder = self._load(VAEEncoder, "vae", dtype)
        return model

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """The UNet.

        Args:
            dtype: Of its weights.
        """
        return self._load(UNet2DConditionModel, "unet", dtype)

    def text_encoders(self) -> list[TextEncoder]:
        """One text encoder, or SDXL's two."""
        tensors = self._tensors(_TEXT_PREFIXES)
        encoders = []
        for name, model_class in TEXT_ENCODERS.items():
            if (self.folder / name).is_dir():
                with reading(self.path):
                    model = create_diffusers_clip_model_from_ldm(
                        model_class,
                        checkpoint=dict(tensors),
                        config=str(self.folder),
                        subfolder=name,
                        torch_dtype=torch.float32,
                        local_files_only=True,
                    )
                self._check_whole(model, name)
                encoders.append(TextEncoder(self._tokenizer(name), frozen(model)))
        return encoders

    def noise_schedule(self) -> DDPMScheduler:
        """The betas of the configuration."""
        with reading(self.folder / "scheduler"):
            return DDPMScheduler.from_pretrained(
                self.folder, subfolder="scheduler", local_files_only=True
            )

    def _shapes(self) -> dict[str, list[int]]:
        with safe_open(self.path, framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118

    def _tensors(self, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
        with safe_open(self.path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefixes)]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in keys}

    def _load(self, model_class: Any, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
        with reading(self.path):
            model = model_class.from_single_file(
                self._tensors(_PREFIXES[name]),
                config=str(self.folder),
                subfolder=name,
                torch_dtype=dtype,
                local_files_only=True,
            )
        self._check_whole(model, name)
        return frozen(model)

    def _check_whole(self, model: nn.Module, name: str) -> None:
        absent = [key for key, value in model.state_dict().items() if value.is_meta]
        if absent:
            raise WeightsError(
                f"{str(self.path)!r} lacks {len(absent)} tensors of its {name}, such as "
                f"{absent[0]!r}; if it is another variety of the model, name its configurations "
                "with --source.config FOLDER."
            )

    def _tokenizer(self, text_encoder: str) -> Tokenizer:
        subfolder = text_encoder.replace("text_encoder", "tokenizer")
        if not (self.folder / subfolder).is_dir():
            config = (self.folder / text_encoder / "config.json").read_text()
            return EmptyPromptTokenizer(0 if '"gelu"' in config else _END)
        with reading(self.folder / subfolder):
            return HubTokenizer(
                CLIPTokenizer.from_pretrained(
                    self.folder, subfolder=subfolder, local_files_only=True
                )
            )


class EmptyPromptTokenizer:
    """Tokens of the empty prompt, which need no vocabulary. A single file comes without one.

    Args:
        pad: The token after the end.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, texts: list[str], length: int) -> Tensor:
        """``(B, length)`` int64.

        Args:
            texts: Empty ones.
            length: How many tokens the encoder takes.

        Raises:
            WeightsError: If a text is not empty.
        """
        if any(texts):
            raise WeightsError(
                "Expected the empty prompt, because a single file has no vocabulary, but got "
                f"{next(filter(None, texts))!r}; name a folder or hub id that has a tokenizer with "
                "--source.config."
            )
        row = [_BEGIN, _END, *[self._pad] * (length - 2)]
        return torch.tensor([row] * len(texts))


def _configurations(config: str) -> Path:
    """The folder with the configurations that belong to a file."""
    vocabulary = (("vocab.json", "tokenizer.json"), ("merges.txt", "tokenizer.json"))
    components = (
        ComponentFiles("unet"),
        ComponentFiles("vae"),
        ComponentFiles("scheduler", required=("scheduler_config.json",), optional=True),
        ComponentFiles("text_encoder"),
        ComponentFiles("text_encoder_2", optional=True),
        ComponentFiles("tokenizer", required=vocabulary, optional=True),
        ComponentFiles("tokenizer_2", required=vocabulary, optional=True),
    )
    return find_model(ModelFiles(config, components))
