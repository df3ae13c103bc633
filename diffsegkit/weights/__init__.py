"""Files of pre-trained models: which a source needs, whether they are whole, where they are."""

from diffsegkit.weights.digest import digest
from diffsegkit.weights.files import ComponentFiles, ModelFiles
from diffsegkit.weights.find import find_model

def check_safetensors(path): ...

__all__ = ["ComponentFiles", "ModelFiles", "check_safetensors", "digest", "find_model"]
