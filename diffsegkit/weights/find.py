"""From a hub id or a folder to a folder with all the files that are needed."""

from pathlib import Path

from diffsegkit.weights.check import check_folder
from diffsegkit.weights.download import download_model
from diffsegkit.weights.files import ModelFiles
from diffsegkit.weights.local import local_folder


def find_model(files: ModelFiles) -> Path:
    """The folder of a model, complete; from the hub's cache, or the hub, if it is no folder.

    Args:
        files: The model, and what is needed of it.

    Raises:
        WeightsError: If there is no such model, or a file is missing or damaged.
        DownloadError: If it has to be fetched and cannot be.
        ComponentError: If it is on the hub, and huggingface_hub is not installed.
    """
    folder = local_folder(files.model)
    if folder is None:
        return download_model(files).folder
    check_folder(folder, files)
    return folder
