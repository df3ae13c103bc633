"""Folder or hub id: what the user means by a model."""

import re
from pathlib import Path

from diffsegkit.errors import WeightsError


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
