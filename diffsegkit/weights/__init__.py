"""Files of pre-trained models: which a source needs, whether they are whole, where they are."""

from diffsegkit.weights.files import ComponentFiles, ModelFiles
from diffsegkit.weights.find import find_model

__all__ = ["ComponentFiles", "ModelFiles", "find_model"]
