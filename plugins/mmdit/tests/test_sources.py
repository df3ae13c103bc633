"""What the sources load, refuse, keep and give back."""

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

import diffusers
import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from safetensors.torch import load_file, save_file

from diffsegkit.errors import ComponentError, WeightsError
from diffsegkit.sources import CachedSource
from diffsegkit.weights import model_state
from diffsegkit_mmdit import FluxSource, StableDiffusion3Source, base
from mmdit_pipelines import FAMILIES, make_pipeline
from mmdit_reference import is_flux, make_source, photos

CLOSE = {"atol": 1e-6, "rtol": 1e-4}


@pytest.fixture(scope="module")
def sd3(pipelines):
    return make_source(pipelines, "sd3")


@pytest.fixture(scope="module")
def dev(pipelines):
    return make_source(pipelines, "dev")


@pytest.fixture
def copied(pipelines, tmp_path):
    """Stable Diffusion 3 in a folder that a test may damage."""
    return Path(shutil.copytree(pipelines["sd3"], tmp_path / "model"))


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Which layers


@pytest.mark.parametrize(
    ("family", "layers", "expected"),
    [
        ("sd3", [2], ["transformer_blocks.2.attn"]),
        ("sd3", [-1, "0"], ["transformer_blocks.0.attn", "transformer_blocks.3.attn"]),
        ("sd3", ["transformer_blocks.1"], ["transformer_blocks.1.attn"]),
        ("sd35", [1], ["transformer_blocks.1.attn"]),
        ("sd35", ["*.attn2"], ["transformer_blocks.0.attn2", "transformer_blocks.1.attn2"]),
        ("sd35", ["transformer_blocks.0"], ["transformer_blocks.0.attn", "transformer_blocks.0.attn2"]),
        ("dev", [3, 0], ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn"]),
        ("dev", ["single_transformer_blocks"], [f"single_transformer_blocks.{i}.attn" for i in (0, 1)]),
    ],
)  # fmt: skip
def test_layers_by_number_name_and_pattern(pipelines, family, layers, expected):
    images = photos(1, 48, 32)
    source = make_source(pipelines, family, layers=layers, average=False)
    found = source(images).attention
    assert [each.name for each in found] == expected
    every = make_source(pipelines, family, layers=source.layer_names, average=False)(images)
    by_name = {each.name: each.probs for each in every.attention}
    for each in found:
        torch.testing.assert_close(each.probs, by_name[each.name], **CLOSE)


def test_all_layers_are_the_joint_ones(pipelines):
    [attention] = make_source(pipelines, "sd35")(photos(1, 32, 32)).attention
    assert attention.count == 4


def test_the_blocks_after_the_last_wanted_are_not_loaded(pipelines):
    blocks = make_source(pipelines, "sd3", layers=[1]).transformer.transformer_blocks
    assert len(blocks) == 2
    transformer = make_source(pipelines, "dev", layers=[1]).transformer
    assert len(transformer.transformer_blocks) == 2
    assert len(transformer.single_transformer_blocks) == 0
    transformer = make_source(pipelines, "dev", layers=[0], cross=[3]).transformer
    assert len(transformer.transformer_blocks) == 3
    assert len(transformer.single_transformer_blocks) == 1
    assert type(transformer) is diffusers.FluxTransformer2DModel


def test_the_last_wanted_layer_does_not_compute_its_own_output(pipelines):
    source = make_source(pipelines, "sd3", layers=[1])
    run = set()
    for name, module in source.transformer.named_modules():
        module.register_forward_hook(lambda _, __, ___, name=name: run.add(name))
    source(photos(1, 32, 32))
    assert "transformer_blocks.0.ff" in run
    assert "transformer_blocks.1.norm1" in run
    assert not run & {"transformer_blocks.1.attn.to_v", "transformer_blocks.1.ff", "norm_out"}


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_are_read(pipelines, tmp_path, family):
    """As the large transformers come, of which whole shards are then not needed."""
    folder = Path(shutil.copytree(pipelines[family], tmp_path / "model"))
    whole = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    transformer_class = getattr(diffusers, make_source(pipelines, family).transformer_class)
    model = transformer_class.from_pretrained(folder, subfolder="transformer")
    whole.unlink()
    model.save_pretrained(folder / "transformer", max_shard_size="60KB")
    assert len(list((folder / "transformer").glob("*-of-*"))) > 2
    images = photos(1, 32, 48)
    for options in ({"layers": [0]}, {}):
        single = make_source(pipelines, family, **options)
        sharded = make_source({family: folder}, family, **options)
        one, other = (source(images).attention[0].probs for source in (single, sharded))
        torch.testing.assert_close(one, other, **CLOSE)
        assert sharded.fingerprint() == single.fingerprint()


def test_cross_attention_of_other_layers(pipelines):
    images = photos(1, 32, 48)
    source = make_source(pipelines, "sd35", layers=["*.0.attn2"], cross=[2, 3], average=False)
    output = source(images)
    assert [each.name for each in output.attention] == ["transformer_blocks.0.attn2"]
    every = make_source(pipelines, "sd35", average=False, cross=True)(images)
    assert len(every.cross) == 4
    for own, other in zip(output.cross, every.cross[2:], strict=True):
        torch.testing.assert_close(own, other, **CLOSE)
    alone = make_source(pipelines, "sd35", layers=[], cross=[2])(images)
    assert alone.attention == []
    torch.testing.assert_close(alone.cross[0], every.cross[2], **CLOSE)


def test_without_text_there_is_none(sd3):
    output = sd3(photos(2, 32, 32))
    assert output.cross == ()
    assert output.proposals is None
    assert output.prompts is None
    assert torch.equal(output.images, photos(2, 32, 32))


def test_where_the_text_has_nothing_no_token_has_more():
    text = torch.tensor([[[0.0, 0.0], [0.1, 0.3]]])
    [cross] = base._cross([text], (1, 2), average=True)
    torch.testing.assert_close(cross, torch.tensor([[[[0.5, 0.25]], [[0.5, 0.75]]]]))


# The text


def test_prompts_say_which_tokens_are_which_words(pipelines):
    source = make_source(pipelines, "sd3", t5=True, cross=True, prompt="A cat")
    [prompt] = source(photos(1, 32, 32)).prompts
    assert prompt.text == "A cat"
    assert len(prompt.spans) == 12 + 9
    # CLIP: begin, a, c, a, t, end and padding; T5: a, a beginning of a word, c, a, t, end.
    [clip, t5] = (prompt.tokens_of("cat")[0][:3], prompt.tokens_of("cat")[0][3:])
    assert clip == (2, 3, 4)
    assert t5 == (14, 15, 16, 17)
    assert [prompt.text[slice(*prompt.spans[i])].strip() for i in t5] == ["c", "c", "a", "t"]
    zeros = make_source(pipelines, "sd3", cross=True, prompt="A cat")(photos(1, 32, 32))
    assert zeros.prompts[0].tokens_of("cat") == ((2, 3, 4),)
    assert zeros.cross[0].shape[1] == len(zeros.prompts[0].spans)


def test_flux_reads_t5s_tokens(pipelines):
    source = make_source(pipelines, "dev", cross=True)
    output = source(photos(2, 32, 32), prompts=["ab c", ""])
    assert [len(prompt.spans) for prompt in output.prompts] == [9, 9]
    [tokens] = output.prompts[0].tokens_of("c")
    assert output.prompts[0].text[slice(*output.prompts[0].spans[tokens[-1]])].strip() == "c"
    assert set(output.prompts[1].spans) == {(0, 0)}


@pytest.mark.parametrize("family", FAMILIES)
def test_text_encoders_are_let_go_until_prompts_need_them(pipelines, family):
    source = make_source(pipelines, family, prompt="a cat")
    assert not any(type(module).__name__.startswith(("CLIP", "T5")) for module in source.modules())
    assert source._text_encoders is None
    images = photos(2, 32, 32)
    default = source(images).attention[0].probs
    both = source(images, prompts=["a cat", "a dog"]).attention[0].probs
    torch.testing.assert_close(default[0], both[0], **CLOSE)
    assert not torch.allclose(default[1], both[1], atol=1e-6)
    kept = source._text_encoders
    source(images, prompts=["x", "y"])
    assert source._text_encoders is kept is not None


@pytest.mark.parametrize(("family", "length"), [("sd3", 12), ("dev", 9)])
def test_a_prompt_that_is_too_long_is_cut_and_said_once(pipelines, family, length):
    source = make_source(pipelines, family)
    with pytest.warns(UserWarning, match=rf"has \d+ tokens; only the first {length} count") as told:
        source(photos(1, 32, 32), prompts=["a prompt of very many letters"])
    assert len(told) == 1


# While it runs


def processors(source):
    return {
        name: module.processor
        for name, module in source.transformer.named_modules()
        if hasattr(module, "processor")
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_processors_are_back_afterwards_whatever_happens(pipelines, family):
    source = make_source(pipelines, family)
    own = processors(source)
    assert len(own) == len(source.layer_names)
    source(photos(1, 32, 32))
    assert processors(source) == own
    handle = source.transformer.transformer_blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        source(photos(1, 32, 32))
    handle.remove()
    assert processors(source) == own
    source(photos(1, 32, 32))


def test_threads_that_share_a_source_do_not_mix(pipelines):
    source = make_source(pipelines, "dev", cross=True)
    own = processors(source)
    images = [photos(1, 32, 16 + 16 * seed, seed) for seed in range(4)]
    alone = [source(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(source, images * 3))
    for index, output in enumerate(together):
        expected = alone[index % 4]
        torch.testing.assert_close(output.attention[0].probs, expected.attention[0].probs, **CLOSE)
        torch.testing.assert_close(output.cross[0], expected.cross[0], **CLOSE)
    assert processors(source) == own


@pytest.mark.parametrize("family", ["sd3", "dev"])
def test_copies_and_pickles_run(pipelines, family):
    source = make_source(pipelines, family, layers=[1])
    images = photos(1, 32, 32)
    expected = source(images).attention[0].probs
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        torch.testing.assert_close(copied(images).attention[0].probs, expected, **CLOSE)
        assert copied.fingerprint() == source.fingerprint()


def test_images_are_resized_to_whole_tokens(pipelines):
    source = make_source(pipelines, "sd3", image_size=96)
    output = source(photos(1, 50, 105))
    assert output.images.shape == (1, 3, 48, 96)
    assert output.attention[0].grid == (3, 6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 40, 64), "multiples of 16 pixels, .* but got 40x64"),
        (torch.zeros(1, 3, 0, 64), "multiples of 16 pixels, .* but got 0x64"),
        (torch.zeros(3, 64, 64), r"shape \(B, 3, H, W\), but got \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64).byte(), "in floating point, in .0, 1., but got torch.uint8"),
        (torch.zeros(1, 3, 32, 208), "at most 192 pixels a side, .* but got 32x208"),
    ],
)
def test_wrong_images_are_told(sd3, images, message):
    with pytest.raises(ValueError, match=message):
        sd3(images)


def test_rotations_know_no_largest_image(dev):
    [attention] = dev(torch.zeros(1, 3, 16, 208)).attention
    assert attention.grid == (1, 13)


def test_one_location(pipelines):
    for family in FAMILIES:
        [attention] = make_source(pipelines, family)(photos(1, 16, 16)).attention
        torch.testing.assert_close(attention.probs, torch.ones(1, 1, 1))


@pytest.mark.parametrize("prompts", [["a"], "ab", [1, 2]])
def test_one_prompt_per_image(sd3, prompts):
    with pytest.raises(ValueError, match="one prompt for each of 2 images, but got"):
        sd3(photos(2, 32, 32), prompts=prompts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [4]}, "`layers` to hold numbers of blocks from 0 to 3, .* but 4 selects none"),
        ({"layers": [-5]}, "but -5 selects none"),
        ({"layers": ["transformer"]}, "'transformer' selects none; they are called 'transformer_blocks.0.attn' to"),
        ({"layers": []}, "`layers` to be a list"),
        ({"layers": "attn"}, "`layers` to be a list"),
        ({"cross": []}, "`cross` to be true, false, or a list"),
        ({"cross": "attn"}, "`cross` to be true, false, or a list"),
        ({"cross": [9]}, "`cross` to hold numbers"),
        ({"proposals": "pads"}, r"`proposals` to be None or one of \('clip', 'padding', 'all'\), but got 'pads'"),
        ({"normalise": "rows"}, "`normalise` to be one of"),
        ({"noise_steps": 29}, "`noise_steps` to be a whole number from 0 to 28, but got 29"),
        ({"noise_steps": -1}, "`noise_steps` to be a whole number"),
        ({"noise_steps": 2.5}, "`noise_steps` to be a whole number"),
        ({"inference_steps": 0}, "`inference_steps` to be a whole number from 1 to 1000, but got 0"),
        ({"t5_length": 0}, "`t5_length` to be a whole number from 1 to 512, but got 0"),
        ({"latent": "mode"}, "'mean' or 'sample', but got 'mode'"),
        ({"image_size": 0}, "`image_size` to be positive"),
        ({"dtype": "half"}, "`dtype` to be one of"),
        ({"device": "cuda:99"}, "`device` to be one that can be used here, but got 'cuda:99'"),
    ],
)  # fmt: skip
def test_wrong_options_are_told(pipelines, options, message):
    with pytest.raises(ValueError, match=message):
        make_source(pipelines, "sd3", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proposals": "clip"}, r"one of \('padding', 'all'\), but got 'clip'"),
        ({"guidance": float("nan")}, "`guidance` to be a number from 0 on, but got nan"),
        ({"guidance": -1}, "`guidance` to be a number"),
        ({"t5_length": 600}, "`t5_length` to be a whole number"),
        ({"layers": [5]}, "blocks from 0 to 4, .* to 'single_transformer_blocks.1.attn'"),
    ],
)
def test_wrong_options_of_flux_are_told(pipelines, options, message):
    with pytest.raises(ValueError, match=message):
        make_source(pipelines, "dev", **options)


def test_text_that_a_layer_does_not_see_is_told(pipelines):
    with pytest.raises(ValueError, match=r"attends to the text.* but got \['\*\.attn2'\]"):
        make_source(pipelines, "sd35", layers=["*.attn2"], cross=True)
    with pytest.raises(ValueError, match="'.*attn2' selects none"):
        make_source(pipelines, "sd35", cross=["transformer_blocks.0.attn2"])


# Half precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_close(pipelines, family, dtype):
    single = make_source(pipelines, family, cross=True)
    half = make_source(pipelines, family, cross=True, dtype=dtype)
    assert half.transformer.dtype == getattr(torch, dtype)
    assert half.vae.dtype == (torch.float32 if dtype == "float16" else torch.bfloat16)
    images = photos(1, 48, 64)
    one, other = half(images), single(images)
    assert one.attention[0].probs.dtype == torch.float32
    torch.testing.assert_close(
        one.attention[0].probs, other.attention[0].probs, atol=5e-3, rtol=0.1
    )
    torch.testing.assert_close(one.cross[0], other.cross[0], atol=5e-3, rtol=0.1)


def test_an_encoder_mended_for_float16_goes_there(copied):
    change_json(copied / "vae" / "config.json", force_upcast=False)
    source = make_source({"sd3": copied}, "sd3", dtype="float16")
    assert source.vae.dtype == torch.float16
    assert source(photos(1, 32, 32)).attention[0].probs.dtype == torch.float32


def test_dtype_by_device(sd3, dev, pipelines):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert (sd3.default_dtype(cuda), dev.default_dtype(cuda)) == (torch.float16, torch.bfloat16)
    assert sd3.default_dtype(cpu) == dev.default_dtype(cpu) == torch.float32
    given = make_source(pipelines, "sd3", dtype="bfloat16")
    assert given.default_dtype(cuda) == given.default_dtype(cpu) == torch.bfloat16


@pytest.mark.parametrize(
    ("family", "broken", "value"),
    [
        ("sd3", "transformer_blocks.2.attn.to_k", torch.nan),
        ("sd3", "transformer_blocks.1.attn.add_k_proj", torch.nan),
        ("sd35", "transformer_blocks.0.attn2.to_q", torch.inf),
        ("dev", "transformer_blocks.1.attn.to_q", torch.inf),
        ("schnell", "single_transformer_blocks.0.attn.to_k", torch.nan),
    ],
)
def test_weights_that_are_not_finite_name_their_layer(pipelines, family, broken, value):
    names = make_source(pipelines, family).layer_names
    source = make_source(pipelines, family, layers=names)
    source.transformer.get_submodule(broken).weight.data[0, 0] = value
    layer = re.escape(broken.rpartition(".")[0])
    with pytest.raises(ValueError, match=f"The attention of '{layer}' is not finite"):
        source(photos(1, 32, 32))


def test_a_latent_that_is_not_finite_is_told(pipelines):
    source = make_source(pipelines, "sd3")
    source.vae.encoder.conv_out.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="The latent is not finite: the VAE overflows in float16"):
        source(photos(1, 32, 32))


# Files


@pytest.mark.parametrize(
    "missing",
    [
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder_2/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named(copied, missing):
    (copied / missing).unlink()
    with pytest.raises(WeightsError, match=re.escape(missing)):
        StableDiffusion3Source(str(copied))


@pytest.mark.parametrize(
    ("family", "missing"), [("sd3", "text_encoder_3"), ("dev", "text_encoder_2")]
)
def test_t5_is_needed_where_it_is_read(pipelines, tmp_path, family, missing):
    folder = Path(shutil.copytree(pipelines[family], tmp_path / "model"))
    shutil.rmtree(folder / missing)
    options = {"t5": True} if family == "sd3" else {}
    with pytest.raises(WeightsError, match=f"{missing}/model.safetensors"):
        make_source({family: folder}, family, **options)
    if family == "sd3":
        shutil.rmtree(folder / "tokenizer_3")
        make_source({family: folder}, family)(photos(1, 32, 32))


def test_only_what_is_needed_is_loaded(copied):
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    kept = {name: value for name, value in tensors.items() if not name.startswith("decoder.")}
    assert len(kept) < len(tensors)
    save_file(kept, weights, {"format": "pt"})
    transformer = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(transformer)
    first = re.compile(
        r"(transformer_blocks\.[01]\.|pos_embed|time_text|context|norm_out|proj_out)"
    )
    save_file({k: v for k, v in tensors.items() if first.match(k)}, transformer, {"format": "pt"})
    source = make_source({"sd3": copied}, "sd3", layers=[1])
    assert not any("decoder" in name for name, _ in source.named_modules())
    source(photos(1, 32, 32))
    with pytest.raises(WeightsError, match=r"tensors are missing.* such as 'transformer_blocks\.2"):
        make_source({"sd3": copied}, "sd3", layers=[2])


def test_a_truncated_file_is_named(copied):
    path = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="diffusion_pytorch_model.safetensors' is truncated"):
        StableDiffusion3Source(str(copied))


@pytest.mark.parametrize(
    ("folder", "found"), [("transformer", "FluxTransformer2DModel"), ("vae", "AutoencoderTiny")]
)
def test_another_kind_of_model_is_told(copied, folder, found):
    change_json(copied / folder / "config.json", _class_name=found)
    with pytest.raises(
        WeightsError, match=f"as Stable Diffusion 3 has it, but it describes '{found}'"
    ):
        StableDiffusion3Source(str(copied))


def test_each_family_refuses_the_other(pipelines):
    with pytest.raises(
        WeightsError, match="FluxTransformer2DModel, as FLUX.1 has it|something else|lacks"
    ):
        FluxSource(str(pipelines["sd3"]))
    with pytest.raises(WeightsError, match="SD3Transformer2DModel|something else|lacks"):
        StableDiffusion3Source(str(pipelines["dev"]))


def test_another_schedule_is_told(copied):
    change_json(copied / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler")
    with pytest.raises(WeightsError, match="class FlowMatchEulerDiscreteScheduler"):
        StableDiffusion3Source(str(copied))


@pytest.mark.parametrize("content", ["[]", "3"])
def test_a_configuration_that_is_none_is_told(copied, content):
    (copied / "transformer" / "config.json").write_text(content)
    with pytest.raises(WeightsError, match="transformer/config.json' to hold names and values"):
        StableDiffusion3Source(str(copied))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": "four"}, "whole number as num_layers, but got 'four'"),
        ({"num_layers": 0}, "whole number as num_layers, but got 0"),
        ({"dual_attention_layers": 3}, "a list as dual_attention_layers, but got 3"),
        ({"num_layers": 9}, "transformer' cannot be read as a part of Stable Diffusion 3"),
        ({"attention_head_dim": 16}, "other shapes"),
    ],
)
def test_a_configuration_of_something_else_is_told(copied, changes, message):
    change_json(copied / "transformer" / "config.json", **changes)
    with pytest.raises(WeightsError, match=message):
        make_source({"sd3": copied}, "sd3")


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (
            "sd3",
            {"in_channels": 33},
            "takes the 16 channels of its VAE's latent, but this one takes 33",
        ),
        ("sd3", {"joint_attention_dim": 20}, "at most 20 dimensions, .* but they give 32"),
        (
            "sd3",
            {"pooled_projection_dim": 48},
            "vector of 48 dimensions for each prompt, .* gives 32",
        ),
        ("dev", {"in_channels": 384}, "takes the 16 channels .* takes 96"),
        ("dev", {"joint_attention_dim": 24}, "a T5 that gives 24 dimensions, .* gives 40"),
        ("dev", {"pooled_projection_dim": 8}, "vector of 8 dimensions"),
    ],
)
def test_parts_of_different_models_are_told(tmp_path, family, changes, message):
    folder = make_pipeline(tmp_path / "model", family, **changes)
    with pytest.raises(WeightsError, match=message):
        make_source({family: folder}, family)


@pytest.mark.parametrize("scaling", ["x", 0, None])
def test_a_scaling_factor_that_is_none_is_told(copied, scaling):
    change_json(copied / "vae" / "config.json", scaling_factor=scaling)
    with pytest.raises(WeightsError, match="scaling_factor above 0"):
        make_source({"sd3": copied}, "sd3")


def test_without_transformers_the_extra_is_named(monkeypatch, pipelines):
    found = base.find_spec
    monkeypatch.setattr(
        base, "find_spec", lambda name: None if name == "transformers" else found(name)
    )
    with pytest.raises(
        ComponentError, match=r"FluxSource needs transformers: pip install 'diffsegkit\[sd\]'"
    ):
        FluxSource(str(pipelines["dev"]))


def test_importing_the_plugin_imports_neither_library():
    script = (
        "import sys, diffsegkit_mmdit, diffsegkit_mmdit.presets;"
        "assert not {'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_libraries_are_silent(pipelines, capfd, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_source(pipelines, family, t5_length=30, cross=True)(photos(1, 32, 32), prompts=["ab"])
    assert capfd.readouterr() == ("", "")


def test_weights_name_what_is_loaded(pipelines):
    for family, options in (("sd3", {}), ("sd3", {"t5": True}), ("dev", {})):
        source_class = FluxSource if is_flux(family) else StableDiffusion3Source
        state = model_state(source_class.weights(str(pipelines[family]), layers=[1], **options))
        assert state.complete
        weights = {name for name in state.names if name.endswith(".safetensors")}
        encoders = {"dev": ["", "_2"]}.get(family, ["", "_2", *(["_3"] if options else [])])
        assert weights == {
            "vae/diffusion_pytorch_model.safetensors",
            "transformer/diffusion_pytorch_model.safetensors",
            *(f"text_encoder{suffix}/model.safetensors" for suffix in encoders),
        }


def test_a_variant_is_read_where_there_is_one(pipelines, tmp_path):
    folder = Path(shutil.copytree(pipelines["sd3"], tmp_path / "half"))
    for path in [*folder.glob("*/*.safetensors")]:
        half = {name: value.half() for name, value in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
        path.unlink()
    source = make_source({"sd3": folder}, "sd3", variant="fp16")
    assert source.transformer.dtype == torch.float32
    images = photos(1, 32, 32)
    expected = make_source(pipelines, "sd3")(images).attention[0].probs
    torch.testing.assert_close(source(images).attention[0].probs, expected, atol=2e-3, rtol=5e-2)


# Identity


def test_fingerprints_tell_weights_and_options_apart(pipelines, tmp_path, sd3):
    first = sd3.fingerprint()
    same = Path(shutil.copytree(pipelines["sd3"], tmp_path / "same"))
    assert make_source({"sd3": same}, "sd3").fingerprint() == first
    options = [
        {"noise_steps": 9}, {"inference_steps": 27}, {"noise": False}, {"latent": "sample"},
        {"prompt": "x"}, {"layers": [3]}, {"layers": [0]}, {"average": False}, {"cross": True},
        {"proposals": "all"}, {"normalise": "locations"}, {"image_size": 64}, {"seed": 1},
        {"dtype": "bfloat16"}, {"t5": True}, {"t5_length": 8},
    ]  # fmt: skip
    others = [make_source(pipelines, "sd3", **each).fingerprint() for each in options]
    others.append(
        make_source({"sd3": make_pipeline(tmp_path / "b", "sd3", seed=1)}, "sd3").fingerprint()
    )
    change_json(same / "scheduler" / "scheduler_config.json", shift=1.0)
    others.append(make_source({"sd3": same}, "sd3").fingerprint())
    others.append(make_source(pipelines, "dev", guidance=1).fingerprint())
    others.append(make_source(pipelines, "dev").fingerprint())
    assert "" not in others
    assert len({first, *others}) == len(options) + 5


def test_a_fingerprint_sees_what_is_put_into_the_model(pipelines):
    source = make_source(pipelines, "sd3")
    first = source.fingerprint()
    source.transformer.proj_out.weight.data.mul_(2)
    assert source.fingerprint() not in ("", first)

    class Own(JointAttnProcessor2_0):
        pass

    source.transformer.transformer_blocks[0].attn.set_processor(Own())
    assert source.fingerprint() == ""


def test_everything_is_cached(pipelines, tmp_path):
    source = make_source(pipelines, "sd3", cross=True, proposals="clip")
    cached = CachedSource(source, str(tmp_path))
    images, prompts = photos(2, 32, 48), ["a cat", ""]
    plain = source(images, prompts=prompts)
    for _ in range(2):
        output = cached(images, prompts=prompts)
        torch.testing.assert_close(
            output.attention[0].probs, plain.attention[0].probs, atol=1e-5, rtol=1e-3
        )
        torch.testing.assert_close(output.cross[0], plain.cross[0])
        assert output.prompts == plain.prompts
        for one, other in zip(output.proposals, plain.proposals, strict=True):
            torch.testing.assert_close(one.maps, other.maps)
            torch.testing.assert_close(one.scores, other.scores)


# The real sizes

REAL = {
    "sd3": (StableDiffusion3Source, {
        "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64, "sample_size": 128,
        "caption_projection_dim": 1536, "pos_embed_max_size": 192,
    }),
    "sd35": (StableDiffusion3Source, {
        "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64, "sample_size": 128,
        "caption_projection_dim": 1536, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
    }),
    "flux": (FluxSource, {"guidance_embeds": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_the_real_architectures_have_these_layers(name):
    """Built without memory: every layer is there under its name, and no other attention."""
    source_class, config = REAL[name]
    with torch.device("meta"):
        transformer = getattr(diffusers, source_class.transformer_class)(**config)
    names = source_class._all_layers(source_class.__new__(source_class), transformer.config)
    there = [name for name, module in transformer.named_modules() if hasattr(module, "processor")]
    assert names == there
    assert len(names) == {"sd3": 24, "sd35": 37, "flux": 57}[name]


_GROWTH = """
import re, sys, torch
from pathlib import Path
from diffsegkit.interfaces import validation
from diffsegkit_mmdit import StableDiffusion3Source

def peak():
    # Not getrusage: that begins with what the parent had.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

source = StableDiffusion3Source(sys.argv[1], layers=[1], proposals="clip")
with validation(False):
    source(torch.rand(1, 3, 64, 64))
    before = peak()
    source(torch.rand(1, 3, 640, 640))
print(peak() - before)
"""


def test_memory_of_a_40x40_grid(tmp_path):
    """Sixteen heads' maps of one layer are 164 MiB; their mean, with the text's keys, is 11."""
    folder = make_pipeline(
        tmp_path / "model", "sd3", num_attention_heads=16, caption_projection_dim=128,
        pos_embed_max_size=48, num_layers=2,
    )  # fmt: skip
    command = [sys.executable, "-c", _GROWTH, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 10 <= float(run.stdout) < 120


def test_the_transformer_class_is_the_official_one(sd3):
    assert type(sd3.transformer) is SD3Transformer2DModel
