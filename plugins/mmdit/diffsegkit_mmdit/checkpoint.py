"""The networks of a model in the layout of diffusers; importing this imports diffusers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPTokenizer, T5TokenizerFast

from diffsegkit.errors import WeightsError
from diffsegkit.sources.networks import VAEEncoder, load_network, reading
from diffsegkit.weights import ModelFiles, find_model
from diffsegkit_mmdit.text import TextEncoder

# How each component's configuration names its class.
_CLASS = {
    "vae": ("config.json", "AutoencoderKL"),
    "scheduler": ("scheduler_config.json", "FlowMatchEulerDiscreteScheduler"),
}


class Checkpoint:
    """A folder. Each network is read when it is asked for, and no other with it.

    Args:
        files: What is needed; it is fetched if it is on the hub.
        transformer: The class of the transformer.
        family: What the model is of, for messages.

    Raises:
        WeightsError: If a file is missing, damaged, or of another kind of model.
        DownloadError: If the model has to be fetched and cannot be.
    """

    def __init__(self, files: ModelFiles, transformer: Any, family: str) -> None:  # noqa: ANN401
        self.folder = find_model(files)
        self.family = family
        self._files = files
        self._transformer = transformer
        expected = {**_CLASS, "transformer": ("config.json", transformer.__name__)}
        for folder, (name, class_name) in expected.items():
            found = _read_object(self.folder / folder / name).get("_class_name", class_name)
            if found != class_name:
                raise WeightsError(
                    f"Expected {str(self.folder / folder / name)!r} to describe the class "
                    f"{class_name}, as {family} has it, but it describes {found!r}."
                )

    def transformer_config(self) -> dict[str, Any]:
        """The configuration of the transformer, its defaults filled in; no weights are read."""
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(self._transformer.__init__).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        return {**defaults, **_read_object(self.folder / "transformer" / "config.json")}

    def vae_encoder(self, dtype: torch.dtype) -> VAEEncoder:
        """The encoder of the autoencoder; the decoder's weights are not read.

        Args:
            dtype: Of its weights.
        """
        encoder: VAEEncoder = self._load(VAEEncoder, "vae", dtype)
        return encoder

    def transformer(self, dtype: torch.dtype, keep: Mapping[str, int]) -> Any:  # noqa: ANN401
        """The transformer, without the blocks after the last that is wanted.

        Args:
            dtype: Of its weights.
            keep: How many blocks of each list there are to be.
        """
        model = self._load(_shortened(self._transformer, keep), "transformer", dtype)
        # The other class was needed for loading alone, and could not be pickled.
        model.__class__ = self._transformer
        return model

    def text_encoder(self, model_class: Any, name: str, dtype: torch.dtype) -> TextEncoder:  # noqa: ANN401
        """A text encoder and its tokenizer, in memory of the CPU.

        Args:
            model_class: A class of transformers.
            name: Of its folder.
            dtype: Of its weights.
        """
        folder = name.replace("text_encoder", "tokenizer")
        tokenizer_class = T5TokenizerFast if "T5" in model_class.__name__ else CLIPTokenizer
        with reading(self.folder / folder, self.family):
            tokenizer = tokenizer_class.from_pretrained(
                self.folder, subfolder=folder, local_files_only=True
            )
        return TextEncoder(tokenizer, self._load(model_class, name, dtype))

    def schedule_config(self) -> Mapping[str, Any]:
        """The configuration of the noise schedule, its defaults filled in."""
        with reading(self.folder / "scheduler", self.family):
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
                self.folder, subfolder="scheduler", local_files_only=True
            )
        return dict(scheduler.config)

    def _load(self, model_class: Any, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
        [component] = [each for each in self._files.components if each.folder == name]
        return load_network(
            model_class,
            self.folder,
            component,
            dtype,
            variant=self._files.variant,
            family=self.family,
        )


def _read_object(path: Path) -> dict[str, Any]:
    # That it is JSON has been seen when the folder was looked at.
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise WeightsError(
            f"Expected {str(path)!r} to hold names and values, but it holds a "
            f"{type(content).__name__}; copy or download it again."
        )
    return content


def _shortened(model_class: Any, keep: Mapping[str, int]) -> Any:  # noqa: ANN401
    """A class that neither has nor loads the blocks after some.

    Args:
        model_class: A transformer of diffusers.
        keep: How many blocks of each list there are to be.
    """
    kept = {name: "|".join(map(str, range(count))) or "none" for name, count in keep.items()}
    rest = "|".join(rf"{name}\.(?!(?:{numbers})\.)" for name, numbers in kept.items())

    class Shortened(model_class):  # type: ignore[misc]
        _keys_to_ignore_on_load_unexpected = (rf"^(?:{rest})",)

        # diffusers reads the names of the arguments from the signature, which wraps() hands on.
        @wraps(model_class.__init__)  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            super().__init__(*args, **kwargs)
            for name, count in keep.items():
                del getattr(self, name)[count:]

    return Shortened
