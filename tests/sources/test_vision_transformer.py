"""Attention of vision transformers against softmax of their own projections in float64."""

import json
import sys
import threading

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from diffsegkit import Segmenter
from diffsegkit.errors import ComponentError, WeightsError
from diffsegkit.sources import VisionTransformerSource, transformer_capture
from diffsegkit.sources.transformer_capture import IMPLEMENTATION, capture_attention
from tests.sources.shared_models import shared_model
from tests.sources.tiny_transformers import build, projections, save, tower

FAMILIES = [
    "clip",
    "clip_vision_model",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "vit_mae",
]
SPECIAL = {"dinov2_with_registers": 5, "dinov3_vit": 5}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
STATISTICS = {"clip": CLIP, "clip_vision_model": CLIP, "vit": ((0.5,) * 3, (0.5,) * 3)}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder per family, and the model that was saved to it."""
    transformers.logging.disable_progress_bar()
    made = {}

    def get(family, **changes):
        key = (family, *sorted(changes.items()))
        if key not in made:
            model = build(family, **changes)
            folder = save(model, tmp_path_factory.mktemp(family))
            made[key] = (folder, model)
        return made[key]

    return get


@pytest.fixture
def images(generator):
    return torch.rand(2, 3, 40, 24, generator=generator)


def inputs(family, images, noise=None):
    """What the saved model is called with, written down anew, in float64."""
    mean, std = STATISTICS.get(family, IMAGENET)
    mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (mean, std))
    options = {"pixel_values": (images.double() - mean) / std}
    if family in ("vit", "vit_mae", "clip", "clip_vision_model"):
        options["interpolate_pos_encoding"] = True
    if family == "vit_mae":
        options["noise"] = noise
    return options


def run(family, model, images, noise=None, **options):
    """The model itself in float64; ``options`` may ask for attentions."""
    model = tower(model).double()
    if family == "vit_mae":
        model.config.mask_ratio = 0.0
        if noise is None:
            noise = torch.linspace(0, 1, images.shape[2] * images.shape[3] // 64).expand(2, -1)
    with torch.no_grad():
        return model(**inputs(family, images, noise), **options)


def eager_maps(family, folder, model, images):
    """Attention as transformers' eager implementation tells it: one per layer, float64."""
    copy = build(family)
    copy.load_state_dict(model.state_dict())
    copy = tower(copy)
    copy.set_attn_implementation("eager")
    attentions = run(family, copy, images, output_attentions=True).attentions
    assert len(attentions) == 4
    return [patches(layer.mean(1), family) for layer in attentions]


def patches(maps, family):
    special = SPECIAL.get(family, 1)
    maps = maps[:, special:, special:]
    return maps / maps.sum(-1, keepdim=True)


def projected_maps(family, model, images, facet, temperature=1.0):
    """Attention from what each layer's projections give: one per layer, float64."""
    copy = build(family)
    copy.load_state_dict(model.state_dict())
    states = []

    def keep(module, args, output):
        states[-1].append(output.detach().unflatten(-1, (2, 8)).transpose(1, 2))

    layers = projections(copy, family)
    maps = []
    for layer in layers:
        states.append([])
        hooks = [layer[letter].register_forward_hook(keep) for letter in facet[: len(set(facet))]]
        run(family, copy, images)
        for hook in hooks:
            hook.remove()
    for found in states:
        one, other = (found[0], found[-1])
        logits = one @ other.mT / 8**0.5 / temperature
        exponentials = (logits - logits.amax(-1, keepdim=True)).exp()
        maps.append(patches((exponentials / exponentials.sum(-1, keepdim=True)).mean(1), family))
    return maps


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_those_of_the_eager_model(family, models, images):
    folder, model = models(family)
    output = VisionTransformerSource(str(folder), layers=range(4), average=False)(images)
    expected = eager_maps(family, folder, model, images)
    assert [one.name for one in output.attention] == [f"layer_{layer}" for layer in range(4)]
    for one, layer in zip(output.attention, expected, strict=True):
        assert one.grid == (5, 3)
        assert one.count == 1
        assert one.probs.dtype == torch.float32
        torch.testing.assert_close(one.probs.double(), layer, atol=2e-6, rtol=2e-5)
        # Neither even nor alike, or the comparison would say little.
        assert layer.std() > 0.01
    assert torch.equal(output.images, images)


@pytest.mark.parametrize("facet", ["qk", "qq", "kk", "vv"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "dinov3_vit"])
def test_facets_and_temperature_are_softmax_of_projections(family, facet, models, images):
    folder, model = models(family)
    source = VisionTransformerSource(
        str(folder), layers=(1, 3), facet=facet, temperature=2.5, average=False
    )
    expected = projected_maps(family, model, images, facet, 2.5)
    for one, layer in zip(source(images).attention, (1, 3), strict=True):
        torch.testing.assert_close(one.probs.double(), expected[layer], atol=2e-6, rtol=2e-5)


def test_values_of_dinov3_are_not_rotated(models, images):
    folder, model = models("dinov3_vit")
    source = VisionTransformerSource(str(folder), layers=(2,), facet="vv")
    expected = projected_maps("dinov3_vit", model, images, "vv")[2]
    torch.testing.assert_close(source(images).attention[0].probs.double(), expected, atol=2e-6, rtol=2e-5)  # fmt: skip
    rotated = VisionTransformerSource(str(folder), layers=(2,), facet="kk")(images)
    plain = projected_maps("dinov3_vit", model, images, "kk")[2]
    assert (rotated.attention[0].probs - plain).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (8, 48), (64, 64)])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_size_is_taken(family, size, models, generator):
    """The size of pre-training, one row of patches, and four times as many."""
    folder, model = models(family)
    images = torch.rand(2, 3, *size, generator=generator)
    [attention] = VisionTransformerSource(str(folder), layers=(-1,))(images).attention
    assert attention.grid == (size[0] // 8, size[1] // 8)
    expected = eager_maps(family, folder, model, images)[3]
    torch.testing.assert_close(attention.probs.double(), expected, atol=2e-6, rtol=2e-5)


def test_position_embeddings_are_interpolated_as_a_picture():
    """Of a model that sees nothing but positions: bicubic, as the publishers do."""
    model = build("vit")
    with torch.no_grad():
        for parameter in tower(model).embeddings.patch_embeddings.parameters():
            parameter.zero_()
    own = tower(model).embeddings.position_embeddings.detach()[0, 1:]
    square = own.reshape(4, 4, 16).permute(2, 0, 1)[None]
    wide = torch.nn.functional.interpolate(square, size=(4, 6), mode="bicubic")
    found = tower(model).embeddings(torch.rand(1, 3, 32, 48), interpolate_pos_encoding=True)
    torch.testing.assert_close(found[0, 1:], wide[0].permute(1, 2, 0).flatten(0, 1))


def test_the_average_is_the_mean_of_the_layers(models, images):
    folder, _ = models("dinov2")
    apart = VisionTransformerSource(str(folder), layers=(-1, 0, 2), average=False)(images)
    [together] = VisionTransformerSource(str(folder), layers=(-1, 0, 2))(images).attention
    assert together.name == "layers_0_2_3"
    assert together.count == 3
    mean = torch.stack([one.probs for one in apart.attention]).mean(0)
    torch.testing.assert_close(together.probs, mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_a_loop(family, models, images):
    folder, _ = models(family)
    source = VisionTransformerSource(str(folder))
    together = source(images).attention[0].probs
    for index in range(2):
        alone = source(images[index : index + 1]).attention[0].probs
        torch.testing.assert_close(alone[0], together[index], atol=1e-6, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_patches_of_mae_stay_in_place(models, images):
    """Against the model run with patches shuffled at random, and put back in order."""
    folder, model = models("vit_mae")
    copy = build("vit_mae")
    copy.load_state_dict(model.state_dict())
    tower(copy).set_attn_implementation("eager")
    noise = torch.rand(2, 15)
    found = run("vit_mae", copy, images, noise, output_attentions=True)
    restore = found.ids_restore
    assert not torch.equal(restore[0], torch.arange(15))
    shuffled = patches(found.attentions[-1].mean(1), "vit_mae")
    expected = torch.stack([maps[order][:, order] for maps, order in zip(shuffled, restore, strict=True)])  # fmt: skip
    [attention] = VisionTransformerSource(str(folder), layers=(-1,))(images).attention
    torch.testing.assert_close(attention.probs.double(), expected, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_itself_is_left_as_it_is(family, models, images):
    """What comes out of it is what fused attention gives, looked at or not."""
    folder, model = models(family)
    source = VisionTransformerSource(str(folder), layers=(0,))
    source(images)
    found = run(family, source.model, images).last_hidden_state
    plain = build(family)
    plain.load_state_dict(model.state_dict())
    assert tower(plain).config._attn_implementation == "sdpa"
    torch.testing.assert_close(found, run(family, plain, images).last_hidden_state)

    given = []

    def watch(module, args, output):
        given.append(output[0])

    # Between two layers that are taken, attention goes on as ever.
    layers = [module for name, module in source.model.named_modules() if name.endswith(("attention", "self_attn"))]  # fmt: skip
    assert len(layers) == 4
    hook = layers[0].register_forward_hook(watch)
    run(family, source.model, images)
    options = inputs(family, images, torch.linspace(0, 1, 15).expand(2, -1))
    capture_attention(source.model, options, (0, 1), lambda *_: None)
    hook.remove()
    assert len(given) == 2
    assert torch.equal(*given)


def test_the_layers_after_the_last_one_wanted_do_not_run(models, images):
    folder, _ = models("dinov2")
    source = VisionTransformerSource(str(folder), layers=(0, 2))
    calls = []
    for index, layer in enumerate(projections(source.model, "dinov2")):
        layer["q"].register_forward_hook(lambda *_, index=index: calls.append(index))
    ends = []
    source.model.layernorm.register_forward_hook(lambda *_: ends.append(1))
    source(images)
    assert calls == [0, 1, 2]
    assert not ends


def test_an_exception_leaves_nothing_behind(models, images):
    folder, _ = models("dinov2")
    source = VisionTransformerSource(str(folder))
    before = source(images).attention[0].probs

    def fail(*_):
        raise ArithmeticError("on purpose")

    hook = projections(source.model, "dinov2")[2]["q"].register_forward_hook(fail)
    with pytest.raises(ArithmeticError, match="on purpose"):
        source(images)
    assert transformer_capture._active.get() is None
    hook.remove()
    assert torch.equal(source(images).attention[0].probs, before)


def test_two_threads_do_not_mix(models, generator):
    folder, _ = models("dinov2")
    sources = [VisionTransformerSource(str(folder), layers=layers) for layers in ((0,), (1, 3))]
    images = [torch.rand(1, 3, side, side, generator=generator) for side in (48, 64)]
    expected = [source(own).attention[0].probs for source, own in zip(sources, images, strict=True)]
    # Threads start with torch's default number of threads; results must not depend on it.
    wrong = []
    barrier = threading.Barrier(2)

    def work(index):
        barrier.wait()
        for _ in range(20):
            found = sources[index](images[index]).attention[0].probs
            if not torch.allclose(found, expected[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_missing_attention_is_an_error_and_never_silence(models, images):
    folder, _ = models("dinov2")
    source = VisionTransformerSource(str(folder))
    source.model.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match=r"no attention of layers \[0, 1, 2, 3\].*0 times"):
        source(images)


@pytest.mark.parametrize(
    ("family", "dtype", "tolerance"),
    [
        *((family, "bfloat16", 0.06) for family in FAMILIES),
        *((family, "float16", 0.01) for family in FAMILIES),
    ],
)
def test_half_precision_gives_float32_maps_close_to_the_full_ones(
    family, dtype, tolerance, models, images
):
    folder, _ = models(family)
    full = VisionTransformerSource(str(folder))(images).attention[0].probs
    half = VisionTransformerSource(str(folder), dtype=dtype)
    assert next(half.model.parameters()).dtype == getattr(torch, dtype)
    found = half(images).attention[0].probs
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 15))
    assert (found - full).abs().max() < tolerance
    # A segmenter may cast images, and the source, to another type than the source was made in.
    assert half(images.half()).attention[0].probs.dtype == torch.float32
    cast = half.to(torch.float64)(images.half()).attention[0].probs
    assert cast.dtype == torch.float32


def test_a_half_precision_checkpoint_is_single_on_a_cpu(models, tmp_path, images):
    """Rounded weights, but not rounded arithmetic."""
    folder = save(build("dinov2").half(), tmp_path)
    source = VisionTransformerSource(str(folder))
    assert {each.dtype for each in source.model.parameters()} == {torch.float32}
    copy = build("dinov2").half().float()
    expected = eager_maps("dinov2", folder, copy, images)[3]
    [last] = VisionTransformerSource(str(folder), layers=(-1,))(images).attention
    torch.testing.assert_close(last.probs.double(), expected, atol=2e-6, rtol=2e-5)


def test_default_dtypes(models):
    source = VisionTransformerSource(str(models("dinov2")[0]))
    assert source.default_dtype(torch.device("cpu")) == torch.float32
    assert source.default_dtype(torch.device("cuda")) == torch.float16
    fixed = VisionTransformerSource(str(models("dinov2")[0]), dtype="bfloat16")
    assert fixed.default_dtype(torch.device("cuda")) == torch.bfloat16


def test_the_source_can_size_images_itself(models, generator):
    folder, _ = models("dinov2")
    images = torch.rand(1, 3, 101, 60, generator=generator)
    output = VisionTransformerSource(str(folder), image_size=48)(images)
    assert output.attention[0].grid == (6, 4)
    expected = torch.nn.functional.interpolate(images, (48, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(output.images, expected)
    [sized] = VisionTransformerSource(str(folder))(expected).attention
    torch.testing.assert_close(output.attention[0].probs, sized.probs)


def test_other_sizes_than_whole_patches_are_refused(models):
    source = VisionTransformerSource(str(models("dinov2")[0]))
    assert source.size_multiple == 8
    with pytest.raises(ValueError, match="multiples of 8, the model's patch size, but got 30x40"):
        source(torch.rand(1, 3, 30, 40))


def test_nan_is_told_with_the_layer(models, images):
    source = VisionTransformerSource(str(models("dinov2")[0]))
    with torch.no_grad():
        projections(source.model, "dinov2")[1]["k"].weight.fill_(float("inf"))
    with pytest.raises(ValueError, match="attention map 'layer_1' to be finite.*precision"):
        source(images)


def normalisation(folder, **options):
    source = VisionTransformerSource(str(folder), **options)
    return source.mean, source.std


@pytest.mark.parametrize("family", FAMILIES)
def test_normalisation_of_the_family(family, models):
    assert normalisation(models(family)[0]) == STATISTICS.get(family, IMAGENET)


def test_the_models_own_normalisation_counts(tmp_path):
    """DINO is of the type vit, and normalised like ImageNet's other models."""
    folder = save(build("vit"), tmp_path)
    own = folder / "preprocessor_config.json"
    own.write_text(json.dumps({"image_mean": IMAGENET[0], "image_std": IMAGENET[1]}))
    assert normalisation(folder) == IMAGENET
    assert normalisation(folder, mean=(0, 0.1, 0.2)) == ((0.0, 0.1, 0.2), IMAGENET[1])
    own.write_text(json.dumps({"do_normalize": False}))
    assert normalisation(folder) == ((0.0,) * 3, (1.0,) * 3)
    own.write_text(json.dumps({"image_mean": [0.5]}))
    with pytest.raises(WeightsError, match=r"three numbers as image_mean and image_std.*\[0\.5\]"):
        VisionTransformerSource(str(folder))
    own.write_text("{")
    with pytest.raises(WeightsError, match="JSON was expected, but it cannot be read"):
        VisionTransformerSource(str(folder))


def test_weights_that_are_missing_are_told(tmp_path):
    folder = save(build("dinov2"), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    dropped = [name for name in tensors if ".k_proj." in name or ".key." in name]
    assert len(dropped) == 8
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"does not have 8 of the weights .*Dinov2Model.*, \.\.\."):  # fmt: skip
        VisionTransformerSource(str(folder))


def test_weights_that_do_not_matter_may_be_missing(tmp_path, images):
    folder = save(build("dinov2"), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    expected = VisionTransformerSource(str(folder))(images).attention[0].probs
    del tensors["embeddings.mask_token"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = VisionTransformerSource(str(folder))(images).attention[0].probs
    assert torch.equal(found, expected)


def test_weights_of_another_shape_are_told(tmp_path):
    folder = save(build("dinov2"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"patch_size": 4}))
    with pytest.raises(WeightsError, match="has in other shapes .*patch_embeddings"):
        VisionTransformerSource(str(folder))


def test_damaged_weights_are_told(tmp_path):
    folder = save(build("dinov2"), tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError):
        VisionTransformerSource(str(folder))


@pytest.mark.parametrize(
    "change", [{"hidden_size": "x"}, {"num_attention_heads": 0}, {"hidden_act": "none"}]
)
def test_configurations_that_make_no_sense_are_told(change, tmp_path):
    folder = save(build("dinov2"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match="cannot be loaded as Dinov2Model"):
        VisionTransformerSource(str(folder))


def test_pickled_weights_are_never_read(tmp_path):
    model = build("dinov2")
    folder = save(model, tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        VisionTransformerSource(str(folder))


def test_shards_and_variants(tmp_path, images):
    model = build("dinov2")
    expected = VisionTransformerSource(str(save(model, tmp_path / "one")))(images).attention[0].probs  # fmt: skip
    shards = save(model, tmp_path / "shards", max_shard_size="10KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert torch.equal(VisionTransformerSource(str(shards))(images).attention[0].probs, expected)
    both = save(model, tmp_path / "both")
    save(build("dinov2").half(), both, variant="fp16")
    rounded = VisionTransformerSource(str(both), variant="fp16")(images).attention[0].probs
    difference = (rounded - expected).abs().max()
    assert 0 < difference < 0.01
    with pytest.raises(WeightsError, match="has no variant 'fp16', only the plain one"):
        VisionTransformerSource(str(shards), variant="fp16")


def test_other_models_are_refused(tmp_path, models):
    folder = save(build("dinov2"), tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "swin"}))
    with pytest.raises(WeightsError, match="of the type 'swin'; this source takes .*dinov2, "):
        VisionTransformerSource(str(tmp_path))
    with pytest.raises(WeightsError):
        VisionTransformerSource(str(tmp_path / "absent"))


def test_a_missing_library_names_the_extra(monkeypatch, models):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ComponentError, match=r"needs transformers: pip install 'diffsegkit\[vit\]'"):  # fmt: skip
        VisionTransformerSource(str(models("dinov2")[0]))


def test_a_library_that_is_broken_is_not_called_missing(monkeypatch, tmp_path, models):
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text("import not_installed_anywhere")
    folder = str(models("dinov2")[0])
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        VisionTransformerSource(folder)


def test_loading_is_quiet_and_leaves_the_library_as_it_was(models, capfd):
    transformers.logging.set_verbosity_info()
    transformers.logging.enable_progress_bar()
    try:
        VisionTransformerSource(str(models("clip")[0]))
        assert transformers.logging.get_verbosity() == transformers.logging.INFO
        assert transformers.logging.is_progress_bar_enabled()
    finally:
        transformers.logging.set_verbosity_warning()
        transformers.logging.disable_progress_bar()
    assert capfd.readouterr().err == ""


def test_the_fingerprint_is_of_weights_and_settings_and_not_of_the_place(models, tmp_path):
    folder, model = models("dinov2")
    source = VisionTransformerSource(str(folder))
    elsewhere = VisionTransformerSource(str(save(model, tmp_path / "elsewhere", max_shard_size="10KB")))  # fmt: skip
    assert source.fingerprint() == elsewhere.fingerprint() == source.fingerprint()
    # Layers by another name are the same layers.
    assert VisionTransformerSource(str(folder), layers=(3, 2, 1, 0)).fingerprint() == source.fingerprint()  # fmt: skip
    others = (
        {"layers": (-1,)},
        {"facet": "kk"},
        {"temperature": 2.5},
        {"average": False},
        {"image_size": 40},
        {"mean": (0, 0, 0)},
        {"std": (1, 1, 1)},
        {"dtype": "float16"},
    )
    prints = [VisionTransformerSource(str(folder), **each).fingerprint() for each in ({}, *others)]
    prints.append(elsewhere.to(torch.bfloat16).fingerprint())
    with torch.no_grad():
        source.model.embeddings.cls_token += 1
    prints.append(source.fingerprint())
    # The same weights, otherwise put together.
    config = json.loads((tmp_path / "elsewhere" / "config.json").read_text())
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))  # fmt: skip
    prints.append(VisionTransformerSource(str(tmp_path / "elsewhere")).fingerprint())
    assert len(set(prints)) == len(prints)


def test_the_files_it_needs():
    files = VisionTransformerSource.weights(revision="main", variant="fp16", layers=(0,))
    assert (files.model, files.revision, files.variant) == ("facebook/dinov2-small", "main", "fp16")
    [component] = files.components
    assert (component.folder, component.weights) == ("", "model")
    assert component.required == ("config.json",)
    assert component.wanted == ("preprocessor_config.json",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (0, 4)}, "one or more of the 4 layers .* from -4 to 3, but got"),
        ({"layers": (-5,)}, "from -4 to 3"),
        ({"layers": ()}, "one or more"),
        ({"layers": (0, -4)}, "each layer once"),
        ({"facet": "qv"}, "`facet` to be one of"),
        ({"temperature": 0}, "`temperature` above 0"),
        ({"image_size": 0}, "`image_size` to be a positive integer"),
        ({"mean": (0.5,)}, "`mean` to hold three numbers"),
        ({"std": (1, 0, 1)}, "`std` to be above 0"),
        ({"dtype": "float8"}, "`dtype` to be 'auto' or one of"),
    ],
)
def test_wrong_options(options, message, models):
    with pytest.raises(ValueError, match=message):
        VisionTransformerSource(str(models("dinov2")[0]), **options)


def test_in_a_segmenter(models, photo):
    """Sized by the segmenter to whole patches, cast by it, and segmented."""
    folder = str(models("dinov2")[0])
    source = {
        "class_path": "diffsegkit.sources.VisionTransformerSource",
        "init_args": {"model": folder, "layers": [-1]},
    }
    segmenter = Segmenter.from_preset("diffseg", source=source, image_size=64, resize="fit")
    [segmentation] = segmenter(photo)
    assert segmentation.labels.shape == (90, 120)
    assert segmentation.proposals.grid == (6, 8)
    assert segmenter.source.model.config._attn_implementation == IMPLEMENTATION
    [half] = segmenter.to(torch.float16)(photo)
    assert half.proposals.maps.dtype == torch.float32


def test_real_weights_give_what_the_eager_model_gives():
    from skimage.data import chelsea

    folder = shared_model("dinov2-small")
    image = torch.from_numpy(chelsea()[:280, :392]).permute(2, 0, 1)[None] / 255
    [attention] = VisionTransformerSource(str(folder), layers=(-1,))(image).attention
    assert attention.grid == (20, 28)
    model = transformers.Dinov2Model.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    mean, std = (torch.tensor(each)[:, None, None] for each in IMAGENET)
    with torch.no_grad():
        last = model((image - mean) / std, output_attentions=True).attentions[-1]
    torch.testing.assert_close(attention.probs, patches(last.mean(1), "dinov2"), atol=1e-6, rtol=1e-3)  # fmt: skip
