"""Stable Diffusion's networks out of a folder in the layout of diffusers."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diffsegkit.errors import DiffSegKitError, WeightsError
from diffsegkit.sources.stable_diffusion.text import HubTokenizer, TextEncoder
from diffsegkit.sources.stable_diffusion.vae import VAEEncoder
from diffsegkit.weights import ModelFiles, files_in, find_variant

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
        folder = self.folder / name
        [component] = [each for each in self._files.components if each.folder == name]
        with reading(folder):
            model, report = model_class.from_pretrained(
                self.folder,
                subfolder=name,
                variant=find_variant(self.folder, component, self._files.variant),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        missing = [*report["missing_keys"], *report["mismatched_keys"], *report["error_msgs"]]
        if missing:
            raise WeightsError(
                f"Expected the weights of {str(folder)!r} to be those its config.json describes, "
                f"but {len(missing)} tensors are missing or have other shapes, such as "
                f"{missing[0]!r}; fetch the folder again, or name another model."
            )
        return frozen(model)


def frozen(model: nn.Module) -> nn.Module:
    """The model, to be used and not trained."""
    return model.eval().requires_grad_(False)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a library says of files that it cannot use, in one sentence; otherwise in silence.

    Args:
        path: What is read.

    Raises:
        WeightsError: In place of whatever the library raises.
    """
    loggers = [logging.getLogger("diffusers"), logging.getLogger("transformers")]
    levels = [logger.level for logger in loggers]
    bars = [
        library.utils.logging
        for library in (diffusers, transformers)
        if library.utils.logging.is_progress_bar_enabled()
    ]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        for library in bars:
            library.disable_progress_bar()
        yield
    except (DiffSegKitError, MemoryError):
        raise
    # The libraries raise OSError, ValueError, KeyError, RuntimeError and safetensors' own.
    except Exception as error:
        reason = " ".join(str(error).split())
        if "ignore_mismatched_sizes" in reason:
            # The libraries' advice is about their own arguments.
            reason = "the tensors have other shapes than its config.json describes"
        raise WeightsError(
            f"{str(path)!r} cannot be read as a part of Stable Diffusion: {reason[:300]}; fetch it "
            "again, or name another model."
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library in bars:
            library.enable_progress_bar()
