"""Stable Diffusion's attention against diffusers' own pipelines and float64 by hand."""

import copy
import json
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from safetensors.torch import load_file, save_file

from diffsegkit import Segmenter
from diffsegkit.bench.random_stable_diffusion import write_folder
from diffsegkit.errors import ComponentError, WeightsError
from diffsegkit.interfaces import validation
from diffsegkit.sources import StableDiffusionSource
from diffsegkit.sources.stable_diffusion import source as source_module
from diffsegkit.sources.stable_diffusion.capture import Recorder, capturing
from diffsegkit.sources.stable_diffusion.layers import layer_grids
from tests.sources.pipelines import FAMILIES, make_pipeline


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """A tiny pipeline of each family, by name."""
    root = tmp_path_factory.mktemp("pipelines")
    return {family: make_pipeline(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def sd1(pipelines):
    return StableDiffusionSource(str(pipelines["sd1"]))


@pytest.fixture
def copied(pipelines, tmp_path):
    """A pipeline that a test may damage."""
    return Path(shutil.copytree(pipelines["sd1"], tmp_path / "model"))


def photos(count, height, width, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def hooked_attention(unet, call):
    """Every layer's map in float64, from what its projections gave while ``call`` ran."""
    seen, handles = {}, []
    for name, module in unet.named_modules():
        if re.search(r"attn1\.to_[qk]$", name):
            handles.append(
                module.register_forward_hook(
                    lambda _, __, output, name=name: seen.__setitem__(name, output)
                )
            )
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    maps = {}
    for name in (key.removesuffix(".to_q") for key in seen if key.endswith("to_q")):
        q, k = (seen[f"{name}.to_{which}"].double() for which in "qk")
        heads = unet.get_submodule(name).heads
        width = q.shape[-1] // heads
        total = 0
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = torch.einsum("bqc,bkc->bqk", q[..., part], k[..., part]) / width**0.5
            weights = torch.exp(logits - logits.amax(-1, keepdim=True))
            total = total + weights / weights.sum(-1, keepdim=True)
        maps[name] = total / heads
    return maps


@pytest.mark.parametrize("size", [(64, 128), (72, 104)])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_the_softmax_of_queries_and_keys(pipelines, family, size):
    """On whole cells of every level, and on sizes that leave partial ones."""
    source = StableDiffusionSource(str(pipelines[family]), average=False)
    images = photos(2, *size)
    found = {}
    expected = hooked_attention(source.unet, lambda: found.update(output=source(images)))
    attention = found["output"].attention
    assert [each.name for each in attention] == source.layer_names
    for layer in attention:
        assert layer.count == 1
        assert layer.probs.dtype == torch.float32
        torch.testing.assert_close(layer.probs.double(), expected[layer.name], atol=1e-6, rtol=1e-4)


def test_the_sixteen_layers_at_512_pixels(sd1, pipelines):
    """Down, middle, up: two layers on each of three levels, one, three on each of three."""
    wanted = (
        [(f"down_blocks.{level}.attentions.{i}", 64 >> level) for level in range(3) for i in (0, 1)]
        + [("mid_block.attentions.0", 8)]
        + [
            (f"up_blocks.{block}.attentions.{i}", 64 >> (3 - block))
            for block in (1, 2, 3)
            for i in (0, 1, 2)
        ]
    )
    names = [f"{name}.transformer_blocks.0.attn1" for name, _ in wanted]
    assert sd1.layer_names == names
    source = StableDiffusionSource(str(pipelines["sd1"]), average=False)
    with validation(False):
        attention = source(photos(1, 512, 512)).attention
    assert [(each.name, each.grid) for each in attention] == [
        (name, (side, side)) for name, (_, side) in zip(names, wanted, strict=True)
    ]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sd1", {(16, 8): 5, (8, 4): 5, (4, 2): 5, (2, 1): 1}),
        ("sd2", {(16, 8): 5, (8, 4): 5, (4, 2): 5, (2, 1): 1}),
        # No attention at the finest level; 2*2 + 3*2 and 2*3 + 3 + 3*3 transformer layers.
        ("sdxl", {(8, 4): 10, (4, 2): 18}),
        ("ssd1b", {(8, 4): 8, (4, 2): 6}),
    ],
)
def test_grids_and_counts_of_each_family(pipelines, family, expected):
    source = StableDiffusionSource(str(pipelines[family]))
    assert source.size_multiple == (64 if family in ("sd1", "sd2") else 32)
    attention = source(photos(1, 128, 64)).attention
    assert {each.grid: each.count for each in attention} == expected
    assert [each.name for each in attention] == [f"{h}x{w}" for h, w in expected]


def test_averaging_as_they_come_is_the_mean(pipelines, sd1):
    images = photos(2, 128, 64)
    layers = StableDiffusionSource(str(pipelines["sd1"]), average=False)(images).attention
    for averaged in sd1(images).attention:
        own = [layer.probs.double() for layer in layers if layer.grid == averaged.grid]
        assert averaged.count == len(own)
        mean = torch.stack(own).mean(0)
        torch.testing.assert_close(averaged.probs.double(), mean, atol=1e-6, rtol=1e-4)


def test_a_batch_is_its_images(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), noise=True, latent="sample")
    images = photos(3, 64, 128)
    together = source(images).attention
    for index, image in enumerate(images):
        for batch, alone in zip(together, source(image[None]).attention, strict=True):
            torch.testing.assert_close(batch.probs[index], alone.probs[0], atol=1e-6, rtol=1e-4)


def latent_seen(source, images):
    """What the UNet is given."""
    seen = []
    handle = source.unet.register_forward_pre_hook(lambda _, args: seen.append(args))
    try:
        source(images)
    finally:
        handle.remove()
    return seen[0]


def whole_vae(folder, images):
    """The distribution by diffusers' whole autoencoder: mean and standard deviation, float64."""
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    with torch.no_grad():
        distribution = vae.encode(images / 0.5 - 1).latent_dist
    return distribution.mean.double(), distribution.std.double(), vae.config.scaling_factor


def test_the_latent_is_the_scaled_mean_without_noise(sd1, pipelines):
    images = photos(2, 64, 64)
    latent, timestep = latent_seen(sd1, images)
    mean, _, scaling = whole_vae(pipelines["sd1"], images)
    assert scaling == 0.18215
    torch.testing.assert_close(latent.double(), mean * 0.18215, atol=1e-6, rtol=1e-4)
    assert timestep == 300


def test_noise_and_sample_are_the_textbook_ones(pipelines):
    source = StableDiffusionSource(
        str(pipelines["sd2"]), noise=True, latent="sample", timestep=50, seed=7
    )
    images = photos(2, 64, 64)
    latent, timestep = latent_seen(source, images)
    assert timestep == 50
    mean, deviation, scaling = whole_vae(pipelines["sd2"], images)
    # The square roots of the betas are equally spaced; alpha-bar is the product of 1 - beta.
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)[50]
    generator = torch.Generator().manual_seed(7)
    first, second = (torch.randn(4, 8, 8, generator=generator).double() for _ in range(2))
    expected = (mean + deviation * first) * scaling * signal**0.5 + second * (1 - signal) ** 0.5
    torch.testing.assert_close(latent.double(), expected, atol=1e-5, rtol=1e-4)


def test_the_seed_decides(pipelines):
    images = photos(1, 64, 64)
    maps = [
        StableDiffusionSource(str(pipelines["sd1"]), noise=True, seed=seed)(images).attention[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(maps[0].probs, maps[1].probs)
    assert not torch.equal(maps[0].probs, maps[2].probs)


def conditions_seen(source, prompts, size=(64, 128)):
    seen = []
    handle = source.unet.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True
    )
    images = photos(len(prompts or [""]), *size)
    try:
        source(images, prompts=prompts)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompts", [None, ["a cat", "two big dogs"]])
def test_conditions_are_those_of_diffusers_pipeline(pipelines, family, prompts):
    source = StableDiffusionSource(str(pipelines[family]))
    seen = conditions_seen(source, prompts)
    is_xl = family in ("sdxl", "ssd1b")
    pipeline_class = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    rest = {} if is_xl else {"safety_checker": None, "feature_extractor": None}
    pipeline = pipeline_class.from_pretrained(pipelines[family], **rest)
    expected = pipeline.encode_prompt(
        prompt=prompts or [""], device="cpu", num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )  # fmt: skip
    torch.testing.assert_close(seen["encoder_hidden_states"], expected[0])
    if is_xl:
        added = seen["added_cond_kwargs"]
        torch.testing.assert_close(added["text_embeds"], expected[2])
        # Height and width as they were, the crop's corner, height and width of the crop.
        assert added["time_ids"].tolist() == [[64, 128, 0, 0, 64, 128]] * len(prompts or [""])
    else:
        assert "added_cond_kwargs" not in seen


def test_text_encoders_are_let_go_until_prompts_need_them(pipelines):
    source = StableDiffusionSource(str(pipelines["sdxl"]), prompt="a cat")
    alone = [type(module).__name__ for module in source.modules()]
    assert not any("CLIP" in name for name in alone)
    assert source._text_encoders is None
    images = photos(2, 64, 64)
    default = source(images).attention[0].probs
    same = source(images, prompts=["a cat", "a cat"]).attention[0].probs
    torch.testing.assert_close(default, same)
    other = source(images, prompts=["a cat", "a dog"]).attention[0].probs
    torch.testing.assert_close(default[0], other[0])
    assert not torch.allclose(default[1], other[1])
    kept = source._text_encoders
    source(images, prompts=["x", "y"])
    assert source._text_encoders is kept is not None


def test_a_prompt_that_is_too_long_is_cut_and_said(sd1):
    with pytest.warns(UserWarning, match=r"has \d+ tokens; only the first 12 count"):
        sd1(photos(1, 64, 64), prompts=["a very long prompt of many letters"])


class _Unending(Recorder):
    """Records, and lets the UNet run to its end."""

    @property
    def is_complete(self):
        return False


def outputs_of_all_modules(unet, call):
    seen, handles = [], []
    for name, module in unet.named_modules():
        # The projections run once more while they are looked at.
        if not re.search(r"attn1\.to_[qk]$", name):
            handles.append(
                module.register_forward_hook(
                    lambda _, __, output, name=name: seen.append((name, output))
                )
            )
    try:
        result = call()
    finally:
        for handle in handles:
            handle.remove()
    return result, seen


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_nothing_else_of_the_unet_changes(pipelines, family):
    source = StableDiffusionSource(str(pipelines[family]))
    latent = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    condition = source._condition(None, 2, (64, 128))
    grids = layer_grids(source._spans, (8, 16))
    recorder = _Unending(grids, average=True)

    def run():
        with torch.no_grad():
            return source.unet(latent, 300, **condition)[0]

    plain, outputs = outputs_of_all_modules(source.unet, run)
    with capturing(source.unet, recorder, grids):
        captured, outputs_captured = outputs_of_all_modules(source.unet, run)
    assert torch.equal(plain, captured)
    assert len(outputs) == len(outputs_captured) > 100
    for (name, output), (name_captured, output_captured) in zip(
        outputs, outputs_captured, strict=True
    ):
        assert name == name_captured
        if isinstance(output, torch.Tensor):
            assert torch.equal(output, output_captured)
    assert sum(each.count for each in recorder.attention()) == len(grids)


def test_the_unet_stops_after_the_last_wanted_layer(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), layers=["down_blocks"])
    _, outputs = outputs_of_all_modules(source.unet, lambda: source(photos(1, 64, 64)))
    run = {name for name, _ in outputs}
    assert "down_blocks.2.attentions.1.norm" in run
    last = "down_blocks.2.attentions.1.transformer_blocks.0"
    assert f"{last}.attn1.to_v" not in run  # not even its own output is computed
    assert not any(name.startswith(("down_blocks.3", "mid_block", "up_blocks")) for name in run)
    assert "conv_out" not in run


def test_processors_are_back_afterwards_whatever_happens(sd1):
    own = dict(sd1.unet.attn_processors)
    sd1(photos(1, 64, 64))
    assert sd1.unet.attn_processors == own
    handle = sd1.unet.mid_block.register_forward_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            sd1(photos(1, 64, 64))
    finally:
        handle.remove()
    assert sd1.unet.attn_processors == own
    sd1(photos(1, 64, 64))


@pytest.mark.parametrize(
    ("layers", "grids"),
    [
        ([16], [(16, 8)]),
        (["8", 4], [(8, 4), (4, 2)]),
        (["mid"], [(2, 1)]),
        (["up_blocks.3*"], [(16, 8)]),
        (["*attentions.2*", 2], [(2, 1), (4, 2), (8, 4), (16, 8)]),
    ],
)
def test_layers_by_pattern_or_resolution(pipelines, layers, grids):
    source = StableDiffusionSource(str(pipelines["sd1"]), layers=layers)
    assert [each.grid for each in source(photos(1, 128, 64)).attention] == grids


def test_a_pattern_that_selects_nothing_lists_what_there_is(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), layers=[64, "up"])
    with pytest.raises(ValueError, match=r"but 64 selects none; .* resolutions are 16, 8, 4, 2,"):
        source(photos(1, 128, 64))


def test_image_size_resizes_to_whole_cells(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), image_size=128)
    output = source(photos(1, 100, 210))
    assert output.images.shape == (1, 3, 64, 128)
    assert output.attention[0].grid == (8, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 100, 128), "multiples of 8 pixels .better of 64,.* but got 100x128"),
        (torch.zeros(3, 64, 64), r"shape \(B, 3, H, W\), but got \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64).byte(), "in floating point, in .0, 1., but got torch.uint8"),
        (torch.zeros(1, 1, 64, 64), r"shape \(B, 3, H, W\), but got \(1, 1, 64, 64\)"),
    ],
)
def test_wrong_images_are_told(sd1, images, message):
    with pytest.raises(ValueError, match=message):
        sd1(images)


def test_one_prompt_per_image(sd1):
    with pytest.raises(ValueError, match=r"one prompt for each of 2 images, but got \['a'\]"):
        sd1(photos(2, 64, 64), prompts=["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timestep": 1000}, "`timestep` to be a whole number from 0 to 999, but got 1000"),
        ({"timestep": 300.5}, "whole number from 0 to 999, but got 300.5"),
        ({"layers": [64, "nope"]}, "but 'nope' selects none"),
        ({"device": "cuda:99"}, "`device` to be one that can be used here, but got 'cuda:99'"),
        ({"latent": "mode"}, "'mean' or 'sample', but got 'mode'"),
        ({"layers": []}, "`layers` to be a list"),
        ({"layers": "up"}, "`layers` to be a list"),
        ({"image_size": 0}, "`image_size` to be positive"),
        ({"dtype": "half"}, "`dtype` to be one of"),
        ({"config": "."}, "`config` only with a single .safetensors file"),
    ],
)
def test_wrong_options_are_told(pipelines, options, message):
    with pytest.raises(ValueError, match=message):
        StableDiffusionSource(str(pipelines["sd1"]), **options)


def test_threads_that_share_a_source_do_not_mix(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]))
    own = dict(source.unet.attn_processors)
    images = [photos(1, 64, 64, seed) for seed in range(4)]
    alone = [source(image).attention[0].probs for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = [found.attention[0].probs for found in pool.map(source, images * 3)]
    for index, probs in enumerate(together):
        torch.testing.assert_close(probs, alone[index % 4], atol=1e-6, rtol=1e-4)
    assert source.unet.attn_processors == own


def test_copies_and_pickles_run(sd1):
    images = photos(1, 64, 64)
    expected = sd1(images).attention[0].probs
    for copied in (copy.deepcopy(sd1), pickle.loads(pickle.dumps(sd1))):
        assert torch.equal(copied(images).attention[0].probs, expected)


# Half precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close(pipelines, sd1, dtype):
    source = StableDiffusionSource(str(pipelines["sd1"]), dtype=dtype)
    assert {parameter.dtype for parameter in source.parameters()} == {getattr(torch, dtype)}
    images = photos(1, 64, 128)
    for half, single in zip(source(images).attention, sd1(images).attention, strict=True):
        assert half.probs.dtype == torch.float32
        torch.testing.assert_close(half.probs, single.probs, atol=2e-3, rtol=5e-2)


def test_the_encoder_of_xl_stays_out_of_float16(pipelines):
    loaded = StableDiffusionSource(str(pipelines["sdxl"]), dtype="float16")
    moved = StableDiffusionSource(str(pipelines["sdxl"])).half()
    for source in (loaded, moved):
        assert source.unet.dtype == torch.float16
        assert source.vae.dtype == torch.float32
        assert source(photos(1, 64, 64)).attention[0].probs.dtype == torch.float32
    assert moved.to(torch.bfloat16).vae.dtype == torch.bfloat16
    exact = StableDiffusionSource(str(pipelines["sdxl"])).vae.quant_conv.weight
    assert torch.equal(loaded.vae.quant_conv.weight, exact)


def test_an_encoder_mended_for_float16_goes_there(pipelines, tmp_path):
    folder = Path(shutil.copytree(pipelines["sdxl"], tmp_path / "fixed"))
    change_json(folder / "vae" / "config.json", force_upcast=False)
    assert StableDiffusionSource(str(folder)).half().vae.dtype == torch.float16


def test_dtype_by_device(pipelines):
    auto = StableDiffusionSource(str(pipelines["sd1"]))
    assert auto.default_dtype(torch.device("cuda")) == torch.float16
    assert auto.default_dtype(torch.device("cpu")) == torch.float32
    given = StableDiffusionSource(str(pipelines["sd1"]), dtype="bfloat16")
    assert given.default_dtype(torch.device("cuda")) == torch.bfloat16


def test_an_overflow_names_the_layer(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]))
    broken = "up_blocks.2.attentions.1.transformer_blocks.0.attn1"
    source.unet.get_submodule(broken).to_k.weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match=f"The attention of '{re.escape(broken)}' is not finite"):
        source(photos(1, 64, 64))


def test_an_overflow_of_the_encoder_is_told(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]))
    source.vae.quant_conv.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="The latent is not finite: the VAE overflows in float16"):
        source(photos(1, 64, 64))


# Files


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_only_what_is_needed_is_loaded(copied):
    """No decoder, no safety checker, no scheduler: they may be anything at all."""
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    kept = {k: v for k, v in tensors.items() if not k.startswith(("decoder.", "post_quant"))}
    assert len(kept) < len(tensors)
    save_file(kept, weights, {"format": "pt"})
    shutil.rmtree(copied / "scheduler")
    (copied / "safety_checker").mkdir()
    (copied / "safety_checker" / "model.safetensors").write_text("nothing")
    source = StableDiffusionSource(str(copied))
    assert not any("decoder" in name for name, _ in source.named_modules())
    source(photos(1, 64, 64))


def test_the_noise_schedule_is_needed_for_noise(copied):
    shutil.rmtree(copied / "scheduler")
    with pytest.raises(WeightsError, match=r"scheduler/scheduler_config\.json"):
        StableDiffusionSource(str(copied), noise=True)


def test_a_variant_is_read_where_there_is_one(tmp_path, pipelines):
    folder = make_pipeline(tmp_path / "half", "sd1", variant="fp16", dtype=torch.float16)
    source = StableDiffusionSource(str(folder), variant="fp16")
    assert source.unet.dtype == torch.float32
    single = StableDiffusionSource(str(pipelines["sd1"]))
    images = photos(1, 64, 64)
    torch.testing.assert_close(
        source(images).attention[0].probs,
        single(images).attention[0].probs,
        atol=2e-3,
        rtol=5e-2,
    )
    with pytest.raises(WeightsError, match=r"source\.variant fp16"):
        StableDiffusionSource(str(folder))


def test_attention_blocks_of_old_encoders_are_read(copied, sd1):
    """The published autoencoder of SD 1.4 has the names of 2022."""
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in load_file(weights).items():
        for new_name, old_name in old.items():
            key = key.replace(f"attentions.0.{new_name}.", f"attentions.0.{old_name}.")
        renamed[key] = value
    assert any("query" in key for key in renamed)
    save_file(renamed, weights, {"format": "pt"})
    images = photos(1, 64, 64)
    found = StableDiffusionSource(str(copied))(images).attention[0].probs
    torch.testing.assert_close(found, sd1(images).attention[0].probs)


@pytest.mark.parametrize(
    "missing",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
    ],
)
def test_a_missing_file_is_named(copied, missing):
    (copied / missing).unlink()
    with pytest.raises(WeightsError, match=re.escape(missing)):
        StableDiffusionSource(str(copied))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(copied, share):
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"unet/diffusion_pytorch_model\.safetensors"):
        StableDiffusionSource(str(copied))


def swap(folder, first, second):
    content = (folder / first).read_bytes()
    (folder / first).write_bytes((folder / second).read_bytes())
    (folder / second).write_bytes(content)


def test_weights_in_each_others_place_are_told(copied):
    stem = "diffusion_pytorch_model.safetensors"
    swap(copied, f"unet/{stem}", f"vae/{stem}")
    with pytest.raises(WeightsError, match="holds the weights of something else"):
        StableDiffusionSource(str(copied))


def test_a_tensor_that_is_missing_is_told(copied):
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 tensors? .*mid_block.*to_q\.weight"):
        StableDiffusionSource(str(copied))


def test_a_tensor_of_another_shape_is_told(copied):
    path = copied / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("fc1.weight"))
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match="text_encoder"):
        StableDiffusionSource(str(copied))


def test_another_kind_of_model_is_told(copied):
    change_json(copied / "unet" / "config.json", _class_name="SD3Transformer2DModel")
    with pytest.raises(
        WeightsError, match=r"the class UNet2DConditionModel.* it describes 'SD3Transformer2DModel'"
    ):
        StableDiffusionSource(str(copied))


def replace_unet(folder, **changes):
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    config = {**unet.config, **changes}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")


@pytest.mark.parametrize("content", ["[]", "3"])
def test_a_configuration_that_is_none_is_told(copied, content):
    (copied / "unet" / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"unet/config\.json"):
        StableDiffusionSource(str(copied))


@pytest.mark.parametrize("scaling", ["x", 0, None])
def test_a_scaling_factor_that_is_none_is_told(copied, scaling):
    change_json(copied / "vae" / "config.json", scaling_factor=scaling)
    with pytest.raises(WeightsError, match="scaling_factor above 0"):
        StableDiffusionSource(str(copied))


def test_a_schedule_too_short_is_told(copied):
    change_json(copied / "scheduler" / "scheduler_config.json", num_train_timesteps=10)
    with pytest.raises(ValueError, match="`timestep` below 10"):
        StableDiffusionSource(str(copied), noise=True)


def test_a_folder_that_is_not_the_models_is_left_alone(copied):
    (copied / "text_encoder_2").mkdir()
    StableDiffusionSource(str(copied))


def test_inpainting_is_told(copied):
    replace_unet(copied, in_channels=9)
    with pytest.raises(WeightsError, match="4 channels of its VAE's latent, but this one takes 9"):
        StableDiffusionSource(str(copied))


def test_parts_of_different_models_are_told(copied):
    replace_unet(copied, cross_attention_dim=24)
    with pytest.raises(WeightsError, match="text of 16 dimensions.* reads 24"):
        StableDiffusionSource(str(copied))


def test_xl_without_its_second_encoder_is_told(pipelines, tmp_path):
    folder = Path(shutil.copytree(pipelines["sdxl"], tmp_path / "model"))
    replace_unet(folder, cross_attention_dim=16)
    shutil.rmtree(folder / "text_encoder_2")
    shutil.rmtree(folder / "tokenizer_2")
    change_json(folder / "model_index.json", text_encoder_2=None, tokenizer_2=None)
    with pytest.raises(WeightsError, match="addition_embed_type 'text_time' and one encoder"):
        StableDiffusionSource(str(folder))


def test_without_diffusers_the_extra_is_named(monkeypatch, pipelines):
    found = source_module.find_spec
    monkeypatch.setattr(
        source_module, "find_spec", lambda name: None if name == "diffusers" else found(name)
    )
    with pytest.raises(ComponentError, match=r"needs diffusers: pip install 'diffsegkit\[sd\]'"):
        StableDiffusionSource(str(pipelines["sd1"]))


def test_the_libraries_are_silent(pipelines, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StableDiffusionSource(str(pipelines["sdxl"]))(photos(1, 64, 64))
    assert capfd.readouterr() == ("", "")


# Identity


def test_fingerprint_tells_weights_and_options_apart(pipelines, tmp_path):
    other = make_pipeline(tmp_path / "other", "sd1", seed=1)
    copy = shutil.copytree(pipelines["sd1"], tmp_path / "copy")
    first = StableDiffusionSource(str(pipelines["sd1"])).fingerprint()
    assert StableDiffusionSource(str(copy)).fingerprint() == first
    options = [{"timestep": 5}, {"noise": True}, {"latent": "sample"}, {"prompt": "x"},
               {"layers": [64]}, {"average": False}, {"image_size": 64}, {"dtype": "bfloat16"},
               {"seed": 1}]  # fmt: skip
    others = [StableDiffusionSource(str(other)).fingerprint()] + [
        StableDiffusionSource(str(pipelines["sd1"]), **each).fingerprint() for each in options
    ]
    assert len({first, *others}) == len(options) + 2
    source = StableDiffusionSource(str(pipelines["sd1"]))
    assert source.half().fingerprint() != first


def test_fingerprint_sees_what_is_put_into_the_model(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]))
    first = source.fingerprint()
    assert source.fingerprint() == first
    source.unet.conv_in.weight.data.mul_(2)  # as adapters are merged
    assert source.fingerprint() not in ("", first)
    source.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6)
    assert source.fingerprint() == ""
    source.unet.disable_freeu()
    assert source.fingerprint() != ""

    class Own(AttnProcessor2_0):
        pass

    source.unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(Own())
    assert source.fingerprint() == ""


def test_fingerprint_sees_the_noise_schedule(copied):
    first = StableDiffusionSource(str(copied), noise=True).fingerprint()
    change_json(copied / "scheduler" / "scheduler_config.json", beta_end=0.02)
    assert StableDiffusionSource(str(copied), noise=True).fingerprint() != first


# Memory


_GROWTH = """
import re, sys, torch
from pathlib import Path
from diffsegkit.interfaces import validation
from diffsegkit.sources import StableDiffusionSource

def peak():
    # Not getrusage: that begins with what the parent had.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

source = StableDiffusionSource(sys.argv[1], layers=[64])
before = peak()
with validation(False):
    source(torch.rand(1, 3, 512, 512))
print(peak() - before)
"""


def test_memory_of_a_64x64_layer(pipelines):
    """Eight heads' maps of one layer are 512 MiB; their mean is 64, and blocks are 8."""
    run = subprocess.run(
        [sys.executable, "-c", _GROWTH, pipelines["sd1"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 64 <= float(run.stdout) < 256


@pytest.fixture
def real_size(tmp_path):
    """SD 1.4's architecture; 4 GB that pytest would keep."""
    write_folder(tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.full_size
def test_the_real_architecture(real_size):
    """SD 1.4 at its real size, with random weights: shapes, memory, and a label map."""
    source = StableDiffusionSource(str(real_size))
    assert sum(parameter.numel() for parameter in source.unet.parameters()) == 859_520_964
    attention = source(photos(1, 512, 512)).attention
    assert [(each.grid, each.count) for each in attention] == [
        ((64, 64), 5), ((32, 32), 5), ((16, 16), 5), ((8, 8), 1),
    ]  # fmt: skip
    assert {attn.heads for name, attn in source.unet.named_modules() if name.endswith("attn1")} == {
        8
    }
    del source, attention
    command = [sys.executable, "-c", _SEGMENT, "segment", chelsea(), "--out", real_size / "out"]
    command += ["--preset", "diffseg-sd14", "--source.model", real_size]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    weights = (859_520_964 + 34_163_664) * 4 / 2**20
    assert float(run.stdout.splitlines()[-1]) - weights < 1500
    with Image.open(real_size / "out" / "chelsea_labels.png") as labels:
        assert labels.size == (300, 300)


_SEGMENT = """
import re, sys
from pathlib import Path
from diffsegkit.cli.main import main
assert main(sys.argv[1:]) == 0
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def chelsea():
    return Path(skimage.data.__file__).with_name("chelsea.png")


# Whole


def test_the_preset_segments_a_photo(pipelines, photo):
    segmenter = Segmenter.from_preset(
        "diffseg-sd14", source={"model": str(pipelines["sd1"])}, image_size=128
    )
    assert segmenter.merger.thresholds == (1.1, 1.1, 1.1)
    [segmentation] = segmenter(photo)
    # The centre square of a photo of 90 x 120.
    assert segmentation.labels.shape == (90, 90)
    assert segmentation.crop_box == (15, 0, 105, 90)


def test_the_unet_sees_the_centre_square_as_the_original_cuts_it(pipelines):
    """Centre square, bilinear with half-pixel centres and no antialias, x / 127.5 - 1, by hand."""
    rng = np.random.default_rng(3)
    photo = rng.integers(0, 256, (96, 150, 3), dtype=np.uint8)
    segmenter = Segmenter.from_preset(
        "diffseg-sd14", source={"model": str(pipelines["sd1"])}, image_size=64
    )
    seen = []
    handle = segmenter.source.vae.encoder.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    segmenter(photo)
    handle.remove()
    square = photo[:, 27:123].astype(np.float64) / 127.5 - 1
    # The centre of output pixel i lies at 1.5 i + 0.25 among the centres of 96 pixels.
    places = (np.arange(64) + 0.5) * 96 / 64 - 0.5
    low = np.floor(places).astype(int)
    share = places - low
    high = np.minimum(low + 1, 95)
    low = np.maximum(low, 0)
    rows = square[low] * (1 - share)[:, None, None] + square[high] * share[:, None, None]
    expected = rows[:, low] * (1 - share)[:, None] + rows[:, high] * share[:, None]
    np.testing.assert_allclose(seen[0][0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
