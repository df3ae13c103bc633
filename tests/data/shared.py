"""The data that not everybody has."""

import os
from pathlib import Path

import pytest


def shared(*parts):
    """A path below the shared folder; the test is skipped where it is absent."""
    default = Path(__file__).parents[3] / "shared"
    path = Path(os.environ.get("DIFFSEGKIT_SHARED", default)).joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"needs {path}; set DIFFSEGKIT_SHARED to the folder that holds it")
    return path
