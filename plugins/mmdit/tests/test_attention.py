"""The sources' attention against diffusers' own pipelines and float64 by hand."""

import pytest
import torch

from diffsegkit_mmdit.capture import Projections, Recorder, attention_to_text, capturing
from mmdit_pipelines import FAMILIES
from mmdit_reference import dense, is_flux, make_source, photos, run_pipeline

CLOSE = {"atol": 1e-6, "rtol": 1e-4}


def expected_maps(source, family, reference):
    """By layer, ``(B, N, N)`` and ``(B, N, T)``; None for layers without text."""
    assert len(reference.compared) == len(source.layer_names)
    maps = {}
    for name, (query, key) in zip(source.layer_names, reference.compared, strict=True):
        text = 0 if name.endswith("attn2") else reference.text
        to_image, to_text = dense(query, key, family, text)
        maps[name] = (to_image, to_text if text else None)
    return maps


@pytest.mark.parametrize("size", [(64, 96), (112, 32)])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_what_the_pipeline_compares(pipelines, family, size):
    """Every layer, on grids that are not square, of two images with prompts of their own."""
    options = {"t5_length": 9, "t5": True} if not is_flux(family) else {"t5_length": 9}
    images, prompts = photos(2, *size), ["a cat", "on top"]
    reference = run_pipeline(pipelines[family], family, images, options, prompts)
    names = make_source(pipelines, family).layer_names
    source = make_source(pipelines, family, layers=names, average=False, cross=True, **options)
    expected = expected_maps(source, family, reference)
    output = source(images, prompts=prompts)
    grid = (size[0] // 16, size[1] // 16)
    assert [each.name for each in output.attention] == names
    for layer in output.attention:
        assert (layer.grid, layer.count, layer.probs.dtype) == (grid, 1, torch.float32)
        torch.testing.assert_close(layer.probs.double(), expected[layer.name][0], **CLOSE)
    texts = [text for _, text in expected.values() if text is not None]
    assert len(output.cross) == len(texts) > 0
    for own, text in zip(output.cross, texts, strict=True):
        assert own.dtype == torch.float32
        assert own.shape == (2, reference.text, *grid)
        share = text / text.sum(-1, keepdim=True)
        torch.testing.assert_close(own.double().flatten(2).mT, share, **CLOSE)
    # The weights are random, but not so that every map were the same.
    spread = torch.stack([maps[0] for maps in expected.values()]).std(0).max()
    assert spread > 1e-4


def test_layers_have_the_names_of_the_transformers_modules(pipelines):
    blocks = [f"transformer_blocks.{i}.attn" for i in range(4)]
    assert make_source(pipelines, "sd3").layer_names == blocks
    dual = [
        *(f"transformer_blocks.{i}.{a}" for i in (0, 1) for a in ("attn", "attn2")),
        *blocks[2:],
    ]
    assert make_source(pipelines, "sd35").layer_names == dual
    both = [*blocks[:3], *(f"single_transformer_blocks.{i}.attn" for i in (0, 1))]
    assert make_source(pipelines, "dev").layer_names == both


@pytest.mark.parametrize("family", FAMILIES)
def test_averages_are_the_mean_of_the_layers(pipelines, family):
    images = photos(2, 64, 48)
    whole = make_source(pipelines, family, cross=True)(images)
    layers = make_source(pipelines, family, cross=True, average=False)(images)
    [attention], [cross] = whole.attention, whole.cross
    assert (attention.name, attention.count) == ("4x3", len(layers.attention))
    mean = torch.stack([each.probs.double() for each in layers.attention]).mean(0)
    torch.testing.assert_close(attention.probs.double(), mean, **CLOSE)
    # Layers that attend more to the text weigh more, so it is not the mean of the shares.
    raw = torch.stack(raw_text(pipelines, family, images)).mean(0)
    share = raw / raw.sum(-1, keepdim=True)
    torch.testing.assert_close(cross.double().flatten(2).mT, share, **CLOSE)
    torch.testing.assert_close(cross.sum(1), torch.ones(2, 4, 3))


def raw_text(pipelines, family, images):
    source = make_source(pipelines, family)
    reference = run_pipeline(pipelines[family], family, images, {"t5_length": 9})
    maps = expected_maps(source, family, reference)
    return [text for _, text in maps.values() if text is not None]


OPTIONS = [
    {},
    {"noise_steps": 1},
    {"noise_steps": 28},
    {"noise_steps": 3, "inference_steps": 5, "seed": 3},
    {"noise": False, "noise_steps": 12},
    {"latent": "sample", "seed": 5},
    {"prompt": "a hill"},
]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        *((family, options) for family in ("sd3", "dev") for options in OPTIONS),
        *((family, options) for family in ("sd35", "schnell") for options in OPTIONS[:2]),
        *((family, {"t5": True, "prompt": "dog"}) for family in ("sd3", "sd35")),
        *((family, {"guidance": 1.5}) for family in ("schnell", "dev")),
    ],
)
def test_the_transformer_is_given_what_its_pipeline_gives_it(pipelines, family, options):
    options = {"t5_length": 9} | options
    images = photos(2, 96, 64, seed=1)
    source = make_source(pipelines, family, **options)
    seen = []
    handle = source.transformer.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True
    )
    source(images)
    handle.remove()
    expected = run_pipeline(pipelines[family], family, images, options).inputs
    assert seen[0].keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(seen[0][name], value, atol=2e-6, rtol=1e-5, msg=name)
        else:
            assert seen[0][name] == value, name


def test_no_noise_steps_are_the_clean_image(pipelines):
    images = photos(1, 64, 64)
    seen = []
    for options in ({"noise_steps": 0}, {"noise_steps": 4, "noise": False}):
        source = make_source(pipelines, "sd3", **options)
        source.transformer.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True
        )
        source(images)
    assert torch.equal(seen[0]["hidden_states"], seen[1]["hidden_states"])
    assert seen[0]["timestep"].tolist() == [0]
    assert seen[1]["timestep"].item() > 200  # a shift of 3: 300 and some


def test_larger_images_have_more_noise_where_the_model_says_so(pipelines):
    """FLUX.1 [dev]'s shift is linear in the number of tokens: exp(mu) s / (exp(mu) s + 1 - s)."""
    source = make_source(pipelines, "dev")
    for tokens, mu in ((256, 0.5), (4096, 1.15), (2176, 0.825)):
        sigma, timestep = source._schedule.level(8, 28, tokens)
        odds = torch.tensor(mu).exp() * (8 / 28) / (20 / 28)
        torch.testing.assert_close(sigma, odds / (1 + odds))
        torch.testing.assert_close(timestep, 1000 * sigma)
    even, _ = make_source(pipelines, "schnell")._schedule.level(8, 28, 4096)
    torch.testing.assert_close(even, torch.tensor(8 / 28))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_images(pipelines, family):
    source = make_source(pipelines, family, latent="sample", cross=True, proposals="all")
    images, prompts = photos(3, 48, 80), ["a", "b c", ""]
    together = source(images, prompts=prompts)
    for index, image in enumerate(images):
        alone = source(image[None], prompts=[prompts[index]])
        torch.testing.assert_close(
            together.attention[0].probs[index], alone.attention[0].probs[0], **CLOSE
        )
        torch.testing.assert_close(together.cross[0][index], alone.cross[0][0], **CLOSE)
        torch.testing.assert_close(together.proposals[index].maps, alone.proposals[0].maps, **CLOSE)
        assert together.prompts[index] == alone.prompts[0]
    default = source(images)
    same = source(images, prompts=["", "", ""])
    torch.testing.assert_close(default.attention[0].probs, same.attention[0].probs, **CLOSE)
    assert len(default.prompts) == 3


def test_the_seed_decides(pipelines):
    images = photos(1, 64, 64)
    maps = [
        make_source(pipelines, "sd3", seed=seed)(images).attention[0].probs for seed in (1, 1, 2)
    ]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


# What is recorded


def random_projections(dtype=torch.float64, text=5):
    generator = torch.Generator().manual_seed(0)
    tensors = [
        2 * torch.randn(2, 3, tokens, 4, generator=generator, dtype=torch.float64).to(dtype)
        for tokens in (6, 6, text)
    ]
    return Projections(*tensors)


def test_a_softmax_over_the_image_is_the_joint_one_divided_by_its_sum():
    """Head by head; the mean over heads divided by its sum is something else."""
    given = random_projections()
    logits = given.queries @ torch.cat([given.keys, given.text_keys], 2).mT / 2
    joint = logits.softmax(-1)
    of_image = joint[..., :6]
    by_head = (of_image / of_image.sum(-1, keepdim=True)).mean(1)
    recorder = Recorder((2, 3), ["layer"], ["layer"])
    recorder.record("layer", given)
    [found] = recorder.attention()
    torch.testing.assert_close(found.probs, by_head)
    after = of_image.mean(1)
    assert ((after / after.sum(-1, keepdim=True)) - by_head).abs().max() > 0.01
    [text] = recorder.text()
    torch.testing.assert_close(text, joint[..., 6:].mean(1))
    torch.testing.assert_close(text.sum(-1), 1 - of_image.mean(1).sum(-1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_rows_at_once_do_not_matter(monkeypatch, dtype, rows):
    given = random_projections(dtype)
    whole = attention_to_text(given.queries, given.keys, given.text_keys)
    monkeypatch.setattr("diffsegkit_mmdit.capture._ENTRIES_AT_ONCE", rows * 2 * 11)
    parts = attention_to_text(given.queries, given.keys, given.text_keys)
    assert parts.dtype == (dtype if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(parts, whole)


def test_permuting_the_text_permutes_its_tokens():
    given = random_projections()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = attention_to_text(given.queries, given.keys, given.text_keys[:, :, order])
    torch.testing.assert_close(permuted, attention_to_text(given.queries, given.keys, given.text_keys)[..., order])  # fmt: skip


def test_a_recorder_tells_what_does_not_fit():
    given = random_projections()
    with pytest.raises(ValueError, match="Expected 2x2 locations in 'layer', but got 6"):
        Recorder((2, 2), ["layer"]).record("layer", given)
    blind = Projections(given.queries, given.keys, None)
    with pytest.raises(ValueError, match="'layer' does not see the text"):
        Recorder((2, 3), [], ["layer"]).record("layer", blind)
    recorder = Recorder((2, 3), ["a", "b"])
    recorder.record("a", blind)
    with pytest.raises(RuntimeError, match="did not run the layer 'b'"):
        recorder.attention()


class Unending(Recorder):
    """Records, and lets the transformer run to its end."""

    is_complete = False


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_transformer_changes(pipelines, family):
    source = make_source(pipelines, family)
    seen = []
    handle = source.transformer.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True
    )
    source(photos(2, 64, 48))
    handle.remove()
    joint = [name for name in source.layer_names if name.endswith("attn")]
    recorder = Unending((4, 3), source.layer_names, joint)
    with torch.no_grad():
        [plain] = source.transformer(**seen[0])
        with capturing(source.transformer, recorder, source._project):
            [captured] = source.transformer(**seen[0])
    assert torch.equal(plain, captured)
    assert plain.std() > 1e-3
    [attention] = recorder.attention()
    assert attention.count == len(source.layer_names)
    assert len(recorder.text()) == len(joint)
