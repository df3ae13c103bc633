"""Files of pre-trained models: which a source needs, whether they are whole, where they are."""

from diffsegkit.weights.check import check_folder, files_in, find_variant
from diffsegkit.weights.content import check_safetensors
from diffsegkit.weights.digest import WeightsDigest
from diffsegkit.weights.download import download_model
from diffsegkit.weights.files import ComponentFiles, ModelFiles
from diffsegkit.weights.find import find_model
from diffsegkit.weights.state import ModelState, model_state

__all__ = [
    "ComponentFiles",
    "ModelFiles",
    "ModelState",
    "WeightsDigest",
    "check_folder",
    "check_safetensors",
    "download_model",
    "files_in",
    "find_model",
    "find_variant",
    "model_state",
]
