"""Stable Diffusion's networks out of one ``.safetensors`` file with all parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTokenizer

from diffsegkit.errors import ComponentError, DiffSegKitError, WeightsError
from diffsegkit.sources.networks import VAEEncoder, frozen, reading
from diffsegkit.sources.stable_diffusion import original_layout as layout
from diffsegkit.sources.stable_diffusion.checkpoint import TEXT_ENCODERS, Checkpoint
from diffsegkit.sources.stable_diffusion.configurations import (
    bundled_configurations,
    find_configurations,
)
from diffsegkit.sources.stable_diffusion.empty_prompt import VOCABULARY, EmptyPromptTokenizer
from diffsegkit.sources.stable_diffusion.text import HubTokenizer, TextEncoder, Tokenizer
from diffsegkit.weights import check_safetensors


class SingleFileCheckpoint(Checkpoint):
    """One file in the layout of the original Stable Diffusion (CompVis, Stability AI).

    The file is mapped into memory, and only the tensors that are needed are looked at.

    Args:
        path: The ``.safetensors`` file.
        config: Folder or hub id with the configurations in the layout of diffusers; None for
            those of the family that the file looks like, which come with this package.

    Raises:
        ComponentError: If accelerate is not installed.
        WeightsError: If the file is missing, damaged, or no Stable Diffusion.
        DownloadError: If ``config`` has to be fetched and cannot be.
    """

    def __init__(self, path: Path, config: str | None = None) -> None:
        if path.suffix != ".safetensors":
            raise WeightsError(
                f"Expected a .safetensors file, but got {str(path)!r}: a {path.suffix} file can "
                "run code when it is read; convert it, or name a model of the hub."
            )
        if find_spec("accelerate") is None:
            # Without it diffusers leaves what a file lacks at random values, and does not say so.
            raise ComponentError(
                "A single file as the model needs accelerate: pip install 'diffsegkit[sd]'."
            )
        check_safetensors(path)
        self.path = path
        shapes = self._shapes()
        layout.check_parts(str(path), shapes)
        self._variety: dict[str, Any] = {}
        if config is not None:
            self.folder = find_configurations(config)
            return
        family = layout.find_family(shapes)
        if family is None:
            raise WeightsError(
                f"The UNet of {str(path)!r} is not that of Stable Diffusion 1.x, 2.x, XL or "
                "SSD-1B, or one of theirs for inpainting or editing, which is not supported; if it "
                "is another one, name its configurations with --source.config FOLDER."
            )
        self.folder = bundled_configurations(family)
        unet = json.loads((self.folder / "unet" / "config.json").read_text())
        self._variety = layout.unet_variety(shapes, unet)

    def vae_encoder(self, dtype: torch.dtype) -> VAEEncoder:
        """The encoder of the autoencoder; the decoder's weights are not read.

        Args:
            dtype: Of its weights.
        """
        model: VAEEncoder = self._load(VAEEncoder, "vae", layout.VAE_ENCODER, dtype)
        return model

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """The UNet.

        Args:
            dtype: Of its weights.
        """
        return self._load(UNet2DConditionModel, "unet", (layout.UNET,), dtype, **self._variety)

    def text_encoders(self) -> list[TextEncoder]:
        """One text encoder, or SDXL's two."""
        names = [name for name in TEXT_ENCODERS if (self.folder / name).is_dir()]
        return [self._text_encoder(name) for name in names]

    def noise_schedule(self) -> DDPMScheduler:
        """The betas of the configuration.

        Raises:
            WeightsError: If it has none.
        """
        path = self.folder / "scheduler" / "scheduler_config.json"
        if not path.is_file():
            raise WeightsError(
                f"The configurations in {str(self.folder)!r} lack scheduler/scheduler_config.json, "
                "which --source.noise needs; copy it there."
            )
        with reading(path):
            return DDPMScheduler.from_pretrained(
                self.folder, subfolder="scheduler", local_files_only=True
            )

    def _shapes(self) -> dict[str, list[int]]:
        with safe_open(self.path, framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118

    def _tensors(self, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
        """Those whose names begin so, mapped: what is not used is not read."""
        with safe_open(self.path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefixes)]  # noqa: SIM118
            return {key: file.get_tensor(key) for key in keys}

    def _load(
        self,
        model_class: Any,  # noqa: ANN401
        name: str,
        prefixes: tuple[str, ...],
        dtype: torch.dtype,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        tensors = self._tensors(prefixes)
        count = len(tensors)
        with reading(self.path), self._fitting(name):
            model = model_class.from_single_file(
                tensors,
                config=str(self.folder),
                subfolder=name,
                torch_dtype=dtype,
                local_files_only=True,
                **options,
            )
        self._check_whole(model, name)
        places = len(model.state_dict())
        # Both layouts have the same tensors in these networks, so the numbers have to be the same.
        if count != places:
            raise self._misfit(name, f"it has {count} tensors, and {places} were expected")
        return frozen(model)

    def _text_encoder(self, name: str) -> TextEncoder:
        tensors = self._tensors(layout.TEXT_ENCODERS[name])
        open_clip = any(key.startswith(layout.OPEN_CLIP) for key in tensors)
        if not tensors:
            raise self._misfit(name, "it is not there")
        with reading(self.path), self._fitting(name):
            model = create_diffusers_clip_model_from_ldm(
                TEXT_ENCODERS[name],
                checkpoint=tensors,
                config=str(self.folder),
                subfolder=name,
                torch_dtype=torch.float32,
                local_files_only=True,
            )
        self._check_whole(model, name)
        return TextEncoder(self._tokenizer(name, open_clip, model.config.vocab_size), frozen(model))

    def _tokenizer(self, text_encoder: str, open_clip: bool, vocabulary: int) -> Tokenizer:
        subfolder = text_encoder.replace("text_encoder", "tokenizer")
        if (self.folder / subfolder).is_dir():
            with reading(self.folder / subfolder):
                return HubTokenizer(
                    CLIPTokenizer.from_pretrained(
                        self.folder, subfolder=subfolder, local_files_only=True
                    )
                )
        if vocabulary < VOCABULARY:
            raise WeightsError(
                f"The configurations in {str(self.folder)!r} lack the folder {subfolder!r}, and "
                f"without it the vocabulary has to be CLIP's, of {VOCABULARY} tokens, but this one "
                f"has {vocabulary}; copy the tokenizer's files there."
            )
        return EmptyPromptTokenizer(open_clip)

    def _check_whole(self, model: Any, name: str) -> None:  # noqa: ANN401
        absent = [key for key, value in model.state_dict().items() if value.is_meta]
        if absent:
            raise self._misfit(
                name, f"{len(absent)} tensors are missing, such as {absent[0]!r} (diffusers' name)"
            )

    @contextmanager
    def _fitting(self, name: str) -> Iterator[None]:
        """What diffusers says of tensors that are not those of a configuration, in one sentence."""
        try:
            yield
        except (DiffSegKitError, MemoryError):
            raise
        except NotImplementedError as error:
            # The network goes to its device in the end, which what came from no file cannot.
            raise self._misfit(name, "tensors are missing") from error
        # KeyError of an absent tensor, ValueError of a shape, OSError of a configuration, and more.
        except Exception as error:
            # The first sentence; diffusers goes on with advice for its own arguments.
            reason = " ".join(str(error).split()).partition(". ")[0]
            what = f"{reason} is missing" if isinstance(error, KeyError) else reason
            raise self._misfit(name, what[:300]) from error

    def _misfit(self, name: str, reason: str) -> WeightsError:
        return WeightsError(
            f"The {name} in {str(self.path)!r} is not the one that the configurations in "
            f"{str(self.folder)!r} describe: {reason}; name those that belong to the file with "
            "--source.config FOLDER, or another file."
        )
