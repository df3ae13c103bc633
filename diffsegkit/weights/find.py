"""From a hub id or a folder to a folder with all the files that are needed."""

import re
from pathlib import Path

from diffsegkit.errors import WeightsError
from diffsegkit.weights.check import check_folder
from diffsegkit.weights.files import ModelFiles


def find_model(files: ModelFiles) -> Path:
    """The folder of a model, complete; from the hub's cache, or the hub, if it is no folder.

    Args:
        files: The model, and what is needed of it.

    Raises:
        WeightsError: If there is no such model, or a file is missing or damaged.
        DownloadError: If it has to be fetched and cannot be.
    """
    folder = local_folder(files.model)
    if folder is None:
        raise WeightsError(f"There is no folder {files.model!r}.")
    check_folder(folder, files)
    return folder


def local_folder(model: str) -> Path | None:
    """The folder that a model is, or None if it is an id on the hub.

    Args:
        model: What the user wrote.

    Raises:
        WeightsError: If it is neither.
    """
    expected = "expected a model's folder, or an id on the hub such as 'facebook/dinov2-small'"
    if not isinstance(model, str) or not model.strip():
        raise WeightsError(f"--source.model: {expected}, but got {model!r}.")
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return path
        is_file = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"--source.model: {model!r} cannot be read ({reason}).") from error
    if is_file:
        raise WeightsError(f"--source.model: {expected}, but {model!r} is a file.")
    if model.startswith(("/", ".", "~")) or "\\" in model or model.count("/") > 1:
        raise WeightsError(f"--source.model: there is no folder {model!r}.")
    if not re.fullmatch(r"(?:[\w.-]+/)?[\w.-]+", model, re.ASCII) or re.search(r"--|\.\.", model):
        raise WeightsError(f"--source.model: {expected}, but got {model!r}.")
    return None
