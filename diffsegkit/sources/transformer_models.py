"""Vision transformers of the transformers library: which there are, and how they are loaded."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from diffsegkit.errors import ComponentError, WeightsError
from diffsegkit.sources.transformer_capture import IMPLEMENTATION, register_implementation

Colour = tuple[float, float, float]
"""One number per channel, RGB."""

# torchvision's, of ImageNet; those of transformers' ViTImageProcessor; OpenAI's for CLIP.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

# What transformers, safetensors and torch raise for files that are damaged or make no sense.
_LOADING_ERRORS = (
    ArithmeticError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    SafetensorError,
)

# Weights without which self-attention of the patches is the same.
_NOT_NEEDED = re.compile(r"(^|\.)(pooler\.|mask_token$)")


@dataclass(frozen=True)
class Family:
    """How models of one ``model_type`` are built, fed and normalised.

    Args:
        class_name: Of the class in transformers.
        normalisation: Mean and standard deviation, for models that bring none.
        arguments: Of the class, beside its configuration.
        settings: Of its configuration, that differ from the checkpoint's.
        interpolates: Whether it has to be told to interpolate position embeddings.
    """

    class_name: str
    normalisation: tuple[Colour, Colour]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    interpolates: bool = False


_CLIP_TOWER = Family("CLIPVisionModel", _CLIP, interpolates=True)

FAMILIES = {
    "clip": _CLIP_TOWER,  # the image tower of a whole CLIP
    "clip_vision_model": _CLIP_TOWER,
    "dinov2": Family("Dinov2Model", _IMAGENET),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", _IMAGENET),
    "dinov3_vit": Family("DINOv3ViTModel", _IMAGENET),
    "vit": Family("ViTModel", _HALF, {"add_pooling_layer": False}, interpolates=True),
    "vit_mae": Family("ViTMAEModel", _IMAGENET, settings={"mask_ratio": 0.0}, interpolates=True),
}
"""Families by the ``model_type`` of their ``config.json``."""


def import_transformers(owner: str) -> ModuleType:
    """The library ``transformers``, or an error that names the extra.

    Args:
        owner: Who needs it.

    Raises:
        ComponentError: If it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ComponentError(
            f"{owner} needs transformers: pip install 'diffsegkit[vit]'."
        ) from error
    module: ModuleType = transformers
    return module


def read_model_type(folder: Path) -> str:
    """The ``model_type`` of a model's folder, one of :data:`FAMILIES`.

    Args:
        folder: Has ``config.json``.

    Raises:
        WeightsError: If it says nothing of the kind, or names another kind of model.
    """
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type not in FAMILIES:
        raise WeightsError(
            f"The model in {str(folder)!r} is of the type {model_type!r}; this source takes "
            f"{', '.join(FAMILIES)}."
        )
    return str(model_type)


def read_normalisation(folder: Path, family: Family) -> tuple[Colour, Colour]:
    """Mean and standard deviation with which a model was trained.

    Args:
        folder: May have ``preprocessor_config.json``, which is what counts: DINO's models are
            of the type ``vit``, yet normalised otherwise.
        family: Has what counts where there is none.

    Raises:
        WeightsError: If the file is there and cannot be read.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return family.normalisation
    content = _read_json(path)
    if content.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = (
        content.get(key, default)
        for key, default in zip(("image_mean", "image_std"), family.normalisation, strict=True)
    )
    try:
        return as_colour(mean), as_colour(std)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"Expected {str(path)!r} to have three numbers as image_mean and image_std, but got "
            f"{mean!r} and {std!r}."
        ) from error


def as_colour(values: Any) -> Colour:  # noqa: ANN401
    """Three numbers, one per channel.

    Args:
        values: Three numbers.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If they are not three.
    """
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def load_transformer(
    folder: Path, model_type: str, dtype: torch.dtype, variant: str | None
) -> tuple[nn.Module, Any]:
    """A model with all its weights, ready to be captured, on the CPU, and its configuration.

    Args:
        folder: Has ``config.json`` and safetensors.
        model_type: One of :data:`FAMILIES`.
        dtype: Of the weights, whatever the files have.
        variant: Such as ``"fp16"``, for ``model.fp16.safetensors``; the plain files are taken if
            there are none of this name.

    Raises:
        WeightsError: If the files cannot be read or are not those of such a model.
    """
    transformers = import_transformers("VisionTransformerSource")
    from huggingface_hub.errors import StrictDataclassError

    family = FAMILIES[model_type]
    register_implementation()
    model_class = getattr(transformers, family.class_name)
    try:
        with _quiet(transformers):
            config = model_class.config_class.from_pretrained(folder, **family.settings)
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                variant=variant if variant and _has_variant(folder, variant) else None,
                attn_implementation=IMPLEMENTATION,
                use_safetensors=True,
                local_files_only=True,
                # What does not fit is told below, in our words.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **family.arguments,
            )
    except (*_LOADING_ERRORS, StrictDataclassError) as error:
        raise WeightsError(
            f"The model in {str(folder)!r} cannot be loaded as {family.class_name} "
            f"({type(error).__name__}: {_one_line(error)})."
        ) from error
    _check_complete(report, folder, family)
    return model.eval().requires_grad_(False), model.config


def _check_complete(report: Mapping[str, Any], folder: Path, family: Family) -> None:
    """Raise where transformers would go on with random numbers."""
    missing = sorted(key for key in report["missing_keys"] if not _NOT_NEEDED.search(key))
    # Entries are (name, shape in the file, shape in the model).
    unfit = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    for names, what in ((missing, "does not have"), (unfit, "has in other shapes")):
        if names:
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            raise WeightsError(
                f"The checkpoint in {str(folder)!r} {what} {len(names)} of the weights that "
                f"{family.class_name} needs: {shown}."
            )


def _has_variant(folder: Path, variant: str) -> bool:
    names = (f"model.{variant}.safetensors", f"model.safetensors.index.{variant}.json")
    return any((folder / name).is_file() for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"There is no {path.name!r} in {str(path.parent)!r}.") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{str(path)!r} cannot be read as JSON ({_one_line(error)}).") from error
    if not isinstance(content, dict):
        raise WeightsError(f"Expected {str(path)!r} to hold a JSON object.")
    return content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].removesuffix(".")


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """No progress bar and no report: what is missing is an error, what is too much is no matter."""
    logging = transformers.utils.logging
    verbosity, progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress:
            logging.enable_progress_bar()
