"""Models of transformers, loaded whole or not at all."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from diffsegkit.errors import ComponentError, DownloadError, WeightsError
from diffsegkit.weights import ComponentFiles, ModelFiles, find_model

# What transformers, safetensors and torch raise for files that are damaged or of another model.
_ERRORS = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)

TEXT_FILES = (
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
"""What a model that reads or writes text has beside its weights; some have one, some another."""


def import_transformers(who: str) -> ModuleType:
    """The library ``transformers``, or an error that names the extra.

    Args:
        who: Who needs it.

    Raises:
        ComponentError: If it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ComponentError(
            f"{who} needs transformers: pip install 'diffsegkit-text[models]'."
        ) from error
    module: ModuleType = transformers
    return module


def find(model: str, revision: str | None, option: str) -> Path:
    """The folder of a model, fetched if it is not here.

    Args:
        model: A hub id, or a folder with ``config.json``, safetensors and a tokenizer.
        revision: Branch, tag or commit on the hub.
        option: Of the command line, with which a user gives another model; for messages.

    Raises:
        WeightsError: If a folder does not have what is needed.
        DownloadError: If it has to be fetched and cannot be.
    """
    files = ModelFiles(model, (ComponentFiles("", "model", wanted=TEXT_FILES),), revision)
    try:
        return find_model(files)
    except (DownloadError, WeightsError) as error:
        # Its remedies name the option of a source's model, which this is not.
        raise type(error)(str(error).replace("--source.model", option)) from error


def load_model(name: str, folder: Path, *needed: str) -> Any:  # noqa: ANN401
    """A model with all its weights, and no code of the folder's.

    Args:
        name: Of its class in transformers.
        folder: Has ``config.json`` and safetensors.
        needed: What else of transformers is loaded from the folder, by class.

    Returns:
        The model, and then what else was asked for.

    Raises:
        WeightsError: If the files are damaged, or not those of such a model.
    """
    import transformers

    logging = transformers.utils.logging
    verbosity, progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        others = [
            getattr(transformers, each).from_pretrained(folder, local_files_only=True)
            for each in needed
        ]
        model, report = getattr(transformers, name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except _ERRORS as error:
        text = " ".join(str(error).split())[:200].removesuffix(".")
        raise WeightsError(
            f"The model in {str(folder)!r} cannot be loaded as {name} "
            f"({type(error).__name__}: {text})."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if progress:
            logging.enable_progress_bar()
    unfit = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    for names, what in (
        (sorted(report["missing_keys"]), "does not have"),
        (unfit, "has in other shapes"),
    ):
        if names:
            raise WeightsError(
                f"The checkpoint in {str(folder)!r} {what} {len(names)} of the weights that {name} "
                f"needs: {', '.join(names[:3])}."
            )
    return (model.eval().requires_grad_(False), *others)
