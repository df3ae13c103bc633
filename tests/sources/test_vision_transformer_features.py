"""Feature maps of vision transformers against the models' own outputs in float64."""

import pytest
import torch

from diffsegkit import SourceOutput
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import AggregatedAttention, require_features
from diffsegkit.sources import CachedSource, VisionTransformerSource
from tests.sources.test_vision_transformer import (  # noqa: F401
    FAMILIES,
    SPECIAL,
    images,
    models,
    run,
)
from tests.sources.tiny_transformers import build, projections, tower


def as_map(tokens, family):
    """(B, tokens, C) to (B, C, 5, 3), special tokens dropped."""
    return tokens[:, SPECIAL.get(family, 1) :].mT.unflatten(-1, (5, 3))


@pytest.mark.parametrize("what", ["query", "key", "value"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "dinov3_vit"])
def test_queries_keys_and_values_are_those_of_the_projections(family, what, models, images):  # noqa: F811
    folder, model = models(family)
    copy = build(family)
    copy.load_state_dict(model.state_dict())
    kept = []
    for layer in (1, 3):
        module = projections(copy, family)[layer][what[0]]
        module.register_forward_hook(lambda module, args, output: kept.append(output))
    run(family, copy, images)
    source = VisionTransformerSource(str(folder), layers=(2,), features=what, feature_layers=(3, 1))
    output = source(images)
    assert len(output.attention) == 1
    assert len(output.features) == 2
    for found, expected in zip(output.features, kept, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), as_map(expected, family), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_what_the_layers_pass_on(family, models, images):  # noqa: F811
    folder, model = models(family)
    copy = build(family)
    copy.load_state_dict(model.state_dict())
    expected = run(family, copy, images, output_hidden_states=True)
    source = VisionTransformerSource(
        str(folder), layers=(0,), features="tokens", feature_layers=(1, -1)
    )
    inner, last = source(images).features
    torch.testing.assert_close(
        inner.double(), as_map(expected.hidden_states[2], family), atol=2e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        last.double(), as_map(expected.last_hidden_state, family), atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("what", ["query", "key", "value", "tokens"])
def test_attention_is_the_same_with_features_and_a_batch_is_a_loop(what, models, images):  # noqa: F811
    folder, _ = models("dinov2_with_registers")
    plain = VisionTransformerSource(str(folder))(images).attention[0].probs
    source = VisionTransformerSource(str(folder), features=what)
    output = source(images)
    assert torch.equal(output.attention[0].probs, plain)
    for index in range(2):
        alone = source(images[index : index + 1])
        torch.testing.assert_close(alone.features[0], output.features[0][index : index + 1])


def test_only_tokens_need_the_model_to_its_end(models, images):  # noqa: F811
    folder, _ = models("dinov2")
    ends = []
    for what in ("key", "tokens"):
        source = VisionTransformerSource(
            str(folder), layers=(0,), features=what, feature_layers=(1,)
        )
        projections(source.model, "dinov2")[2]["q"].register_forward_hook(
            lambda *_, what=what: ends.append(what)
        )
        source(images)
    assert ends == ["tokens"]


def test_features_that_are_not_finite_are_told(models, images):  # noqa: F811
    folder, _ = models("dinov2")
    source = VisionTransformerSource(str(folder), features="value", feature_layers=(0,))
    with torch.no_grad():
        projections(tower(source.model), "dinov2")[0]["v"].weight.fill_(float("inf"))
    with pytest.raises(ValueError, match="features 'value' are not finite"):
        source(images)


def test_they_are_cached_and_part_of_the_fingerprint(models, images, tmp_path):  # noqa: F811
    folder, _ = models("dinov2")
    source = VisionTransformerSource(str(folder), features="key")
    cached = CachedSource(source, str(tmp_path))
    first, second = cached(images), cached(images)
    assert torch.equal(first.features[0], source(images).features[0])
    assert torch.equal(first.features[0], second.features[0])
    settings = [{}, {"features": "key"}, {"features": "query"}, {"features": "key", "feature_layers": (0,)}]  # fmt: skip
    prints = {VisionTransformerSource(str(folder), **each).fingerprint() for each in settings}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "keys"}, "argument `features` to be None or one of .* got 'keys'"),
        ({"features": "key", "feature_layers": (4,)}, "argument `feature_layers` to hold one or"),
        (
            {"features": "key", "feature_layers": (-1, 3)},
            "`feature_layers` to name each layer once",
        ),
    ],
)
def test_wrong_options(options, message, models):  # noqa: F811
    folder, _ = models("dinov2")
    with pytest.raises(ValueError, match=message):
        VisionTransformerSource(str(folder), **options)


def test_who_needs_features_says_how_to_get_them():
    aggregated = AggregatedAttention(torch.eye(6)[None], (2, 3))
    with pytest.raises(UsageError, match=r"^MyMerger compares features, but .* gave none; .*key"):
        require_features(aggregated, "MyMerger")
    output = SourceOutput([], features=[torch.zeros(1, 1, 2, 3).half(), torch.ones(1, 1, 2, 3)])
    aggregated = AggregatedAttention(torch.eye(6)[None], (2, 3), output)
    assert require_features(aggregated, "MyMerger").sum() == 6
    assert require_features(aggregated, "MyMerger", index=0).dtype == torch.float32
    with pytest.raises(UsageError, match="gave 2 feature maps"):
        require_features(aggregated, "MyMerger", index=2)
