"""Stable Diffusion's networks out of a folder in the layout of diffusers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diffsegkit.errors import WeightsError
from diffsegkit.sources.networks import VAEEncoder, load_network, reading
from diffsegkit.sources.stable_diffusion.text import HubTokenizer, TextEncoder
from diffsegkit.weights import ModelFiles, files_in

TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
"""The text encoders a model may have, and their classes."""

_EXPECTED = {"vae": "AutoencoderKL", "unet": "UNet2DConditionModel"}


class Checkpoint(ABC):
    """Where the networks come from. Each is read when it is asked for, and no other with it."""

    @abstractmethod
    def vae_encoder(self, dtype: torch.dtype) -> VAEEncoder:
        """The encoder of the autoencoder."""

    @abstractmethod
    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """The UNet."""

    @abstractmethod
    def text_encoders(self) -> list[TextEncoder]:
        """One text encoder, or SDXL's two, in float32."""

    @abstractmethod
    def noise_schedule(self) -> DDPMScheduler:
        """How much noise each timestep has."""


class FolderCheckpoint(Checkpoint):
    """A folder in the layout of diffusers.

    Args:
        folder: The folder; that its files are there and whole is known.
        files: What is needed of it, and in which variant.
    """

    def __init__(self, folder: Path, files: ModelFiles) -> None:
        self.folder = folder
        self._files = files
        for name, expected in _EXPECTED.items():
            path = folder / name / "config.json"
            content = json.loads(path.read_text())
            found = content.get("_class_name", expected) if isinstance(content, dict) else content
            if found != expected:
                raise WeightsError(
                    f"Expected {str(path)!r} to describe the class {expected}, as Stable Diffusion "
                    f"1.x, 2.x and XL have it, but it describes {found!r}."
                )
        # A folder that model_index.json does not list is not the model's.
        folders = {name.partition("/")[0] for name in files_in(folder, files)}
        self._text_encoders = [name for name in TEXT_ENCODERS if name in folders]

    def vae_encoder(self, dtype: torch.dtype) -> VAEEncoder:
        """The encoder of the autoencoder; the decoder's weights are not read.

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
        encoders = []
        for name in self._text_encoders:
            subfolder = name.replace("text_encoder", "tokenizer")
            with reading(self.folder / subfolder):
                tokenizer = CLIPTokenizer.from_pretrained(
                    self.folder, subfolder=subfolder, local_files_only=True
                )
            model = self._load(TEXT_ENCODERS[name], name, torch.float32)
            encoders.append(TextEncoder(HubTokenizer(tokenizer), model))
        return encoders

    def noise_schedule(self) -> DDPMScheduler:
        """The model's own betas."""
        with reading(self.folder / "scheduler"):
            return DDPMScheduler.from_pretrained(
                self.folder, subfolder="scheduler", local_files_only=True
            )

    def _load(self, model_class: Any, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
        [component] = [each for each in self._files.components if each.folder == name]
        variant = self._files.variant
        return load_network(model_class, self.folder, component, dtype, variant=variant)
