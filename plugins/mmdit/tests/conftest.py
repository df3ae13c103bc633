"""Tiny pipelines for the tests, found without installing anything."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """A tiny pipeline of each family, by name."""
    from mmdit_pipelines import FAMILIES, make_pipeline

    root = tmp_path_factory.mktemp("mmdit")
    return {family: make_pipeline(root / family, family) for family in FAMILIES}
