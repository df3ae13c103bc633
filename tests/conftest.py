"""Inputs that many tests share."""

import os
from importlib.metadata import distributions

import numpy as np
import pytest
import torch
from hypothesis import settings

from diffsegkit import registry

os.environ.setdefault("COLUMNS", "100")
# Triton's kernels run on a GPU where there is one, and in Triton's interpreter elsewhere. It reads
# this when a kernel's module is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# At a desk the examples differ from run to run; where a change is judged they do not.
settings.register_profile("ci", derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def without_plugins(monkeypatch):
    """The tests of the core are of the core, whether or not its plugins are installed here."""

    def own():
        return (each for each in distributions() if not (each.name or "").startswith("diffsegkit-"))

    monkeypatch.setattr(registry, "distributions", own)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def photo():
    """A small photo-like image with three clearly different regions, (90, 120, 3) uint8."""
    rng = np.random.default_rng(0)
    image = np.full((90, 120, 3), (70, 130, 200), dtype=np.int16)
    image[50:] = (60, 120, 40)
    image[20:70, 40:80] = (200, 60, 50)
    image += rng.integers(-6, 7, image.shape, dtype=np.int16)
    return image.clip(0, 255).astype(np.uint8)
