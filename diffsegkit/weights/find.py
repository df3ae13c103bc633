"""From a hub id or a folder to a folder with all the files that are needed."""

from pathlib import Path

from diffsegkit.errors import WeightsError
from diffsegkit.weights.files import ModelFiles


def find_model(files: ModelFiles) -> Path:
    """The folder of a model, complete; from the hub's cache, or the hub, if it is no folder.

    Args:
        files: The model, and what is needed of it.

    Raises:
        WeightsError: If there is no such model, or a file is missing or damaged.
        DownloadError: If it has to be fetched and cannot be.
    """
    folder = Path(files.model).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"There is no folder {files.model!r}.")
    return folder
