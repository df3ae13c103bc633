"""A hub, and a cache of its own."""

import logging

import pytest

from diffsegkit.weights import fetch
from tests.weights.hub import Hub
from tests.weights.models import write_pipeline, write_transformer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that this process and those it starts ask, and an empty cache."""
    from huggingface_hub import constants

    cache = tmp_path / "home" / "hub"
    hub = Hub()
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)
    monkeypatch.setattr(fetch, "_PAUSE", 0)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    hub.cache = cache
    hub.models["owner/pipeline"] = write_pipeline(tmp_path / "served" / "pipeline", size=20_000)
    hub.models["owner/vit"] = write_transformer(tmp_path / "served" / "vit", size=20_000)
    with hub.running():
        yield hub


@pytest.fixture(autouse=True)
def quiet():
    """What huggingface_hub and diffsegkit log is looked at where a test asks."""
    level = logging.getLogger("diffsegkit").level
    yield
    logging.getLogger("diffsegkit").setLevel(level)
