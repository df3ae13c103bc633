"""Weights that not everybody has."""

import os
from pathlib import Path

import pytest


def shared_model(name):
    """The folder of a model below the shared folder; the test is skipped where it is absent."""
    default = Path(__file__).parents[3] / "shared"
    folder = Path(os.environ.get("DIFFSEGKIT_SHARED", default)) / "models" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}; set DIFFSEGKIT_SHARED to the folder that holds it")
    return folder
