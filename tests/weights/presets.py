"""Presets with weights, as a plugin would bring them."""

from diffsegkit import AttentionSource, Preset
from diffsegkit.presets import part
from tests.weights.models import pipeline, transformer


class Transformer(AttentionSource):
    """Needs a vision transformer; what it would do with it does not matter here."""

    def __init__(self, model="owner/vit", revision: str | None = None, layers: int = 3):
        super().__init__()
        raise AssertionError("a download constructs nothing")

    @classmethod
    def weights(cls, model="owner/vit", revision=None, **_):
        return transformer(model, revision=revision)

    def forward(self, images, *, prompts=None):
        raise NotImplementedError


class Pipeline(Transformer):
    def __init__(self, model="owner/pipeline", variant: str | None = None):
        super().__init__()

    @classmethod
    def weights(cls, model="owner/pipeline", variant=None):
        return pipeline(model, variant=variant)


class Careless(Transformer):
    @classmethod
    def weights(cls, **_):
        return ["model.safetensors"]


class Forgetful(Transformer):
    @classmethod
    def weights(cls):
        return None


def _preset(name, **options):
    return Preset(f"{name}.", part(f"tests.weights.presets.{name}", **options))


VIT = _preset("Transformer")
SD = _preset("Pipeline")
ABSENT = _preset("Transformer", model="owner/absent")
LOCAL = _preset("Transformer", model="tests")
CARELESS = _preset("Careless")
FORGETFUL = _preset("Forgetful")
NEEDY = Preset("Needy.", VIT.source, requires=["not_there"], extra="x[y]")
