"""Networks out of a folder in the layout of diffusers, for sources that are built on them.

Importing this module imports diffusers and transformers, so a source does it where it loads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from diffsegkit.errors import DiffSegKitError, WeightsError
from diffsegkit.sources.stable_diffusion.vae import VAEEncoder
from diffsegkit.weights import ComponentFiles, find_variant

__all__ = ["VAEEncoder", "frozen", "load_network", "reading"]


def load_network(
    model_class: Any,  # noqa: ANN401
    folder: Path,
    component: ComponentFiles,
    dtype: torch.dtype,
    *,
    variant: str | None = None,
    family: str = "Stable Diffusion",
) -> Any:  # noqa: ANN401
    """One network of a model, to be used and not trained; nothing is fetched.

    Args:
        model_class: A class of diffusers or transformers, with ``from_pretrained``.
        folder: The model's folder, complete: what :func:`~diffsegkit.weights.find_model` returns.
        component: Which of its folders.
        dtype: Of the weights.
        variant: Such as ``"fp16"``; the plain file where there is no such.
        family: What the model is of, for messages.

    Raises:
        WeightsError: If the files cannot be read, or are not those its config.json describes.
    """
    path = folder / component.folder
    with reading(path, family):
        model, report = model_class.from_pretrained(
            folder,
            subfolder=component.folder,
            variant=find_variant(folder, component, variant),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = [*report["missing_keys"], *report["mismatched_keys"], *report["error_msgs"]]
    if missing:
        raise WeightsError(
            f"Expected the weights of {str(path)!r} to be those its config.json describes, "
            f"but {len(missing)} tensors are missing or have other shapes, such as "
            f"{missing[0]!r}; fetch the folder again, or name another model."
        )
    return frozen(model)


def frozen(model: nn.Module) -> nn.Module:
    """The model, to be used and not trained.

    Args:
        model: It is changed itself.
    """
    return model.eval().requires_grad_(False)


@contextmanager
def reading(path: Path, family: str = "Stable Diffusion") -> Iterator[None]:
    """What a library says of files that it cannot use, in one sentence; otherwise in silence.

    Args:
        path: What is read.
        family: What it should be a part of.

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
            f"{str(path)!r} cannot be read as a part of {family}: {reason[:300]}; fetch it "
            "again, or name another model."
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library in bars:
            library.enable_progress_bar()
