"""Stable Diffusion in one file of its publishers' layout: the same as the folder of diffusers."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from diffsegkit import Segmenter
from diffsegkit.errors import ComponentError, DownloadError, WeightsError
from diffsegkit.sources import StableDiffusionSource
from diffsegkit.sources.stable_diffusion import original_layout, single_file
from diffsegkit.sources.stable_diffusion.configurations import bundled_configurations
from diffsegkit.sources.stable_diffusion.empty_prompt import EmptyPromptTokenizer
from diffsegkit.sources.stable_diffusion.single_file import SingleFileCheckpoint
from tests.sources.pipelines import FAMILIES, make_pipeline
from tests.sources.single_files import (
    original,
    original_unet,
    write_hollow_file,
    write_single_file,
)

TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
# What SSD-1B and Segmind-Vega (Gupta et al., arXiv 2401.02677) leave of SDXL's layers.
SSD1B = {
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
    "mid_block_type": "UNetMidBlock2D",
}
VEGA = {
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
    "mid_block_type": "UNetMidBlock2D",
}


@pytest.fixture(autouse=True)
def attempts(monkeypatch):
    """Whatever tries to reach a network fails, and fails the test too unless it is forgiven."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield tried
    assert tried == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny pipeline of each family, by name."""
    root = tmp_path_factory.mktemp("folders")
    return {family: make_pipeline(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def single_files(folders, tmp_path_factory):
    """The same pipelines, each in one file."""
    root = tmp_path_factory.mktemp("files")
    return {
        family: write_single_file(root / f"{family}.safetensors", folder)
        for family, folder in folders.items()
    }


def photos(count=2, height=64, width=128):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def assert_same_attention(found, expected, **prompts):
    maps = found(photos(), **prompts).attention
    for one, other in zip(maps, expected(photos(), **prompts).attention, strict=True):
        assert one.name == other.name
        torch.testing.assert_close(one.probs, other.probs)


# The same networks


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_its_folder(folders, single_files, family):
    folder = StableDiffusionSource(str(folders[family]))
    file = StableDiffusionSource(str(single_files[family]), config=str(folders[family]))
    weights, expected = file.state_dict(), folder.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name
    assert not any(parameter.requires_grad for parameter in file.parameters())
    assert not any(module.training for module in (*file.unet.modules(), *file.vae.modules()))
    assert_same_attention(file, folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_read_by_the_tokenizer_of_the_configurations(folders, single_files, family):
    folder = StableDiffusionSource(str(folders[family]), prompt="a cat")
    file = StableDiffusionSource(
        str(single_files[family]), config=str(folders[family]), prompt="a cat"
    )
    assert_same_attention(file, folder)
    assert_same_attention(file, folder, prompts=["two big dogs", "a house"])


def test_a_file_segments_a_photo_with_a_preset(folders, single_files, photo):
    model = {"model": str(single_files["sd1"]), "config": str(folders["sd1"])}
    segmenter = Segmenter.from_preset("diffseg-sd14", source=model, image_size=64)
    [segmentation] = segmenter(photo)
    assert segmentation.labels.shape == (90, 90)


def test_a_file_in_half_precision_is_computed_in_float32_on_a_cpu(folders, tmp_path):
    path = write_single_file(tmp_path / "half.safetensors", folders["sdxl"], dtype=torch.float16)
    source = StableDiffusionSource(str(path), config=str(folders["sdxl"]))
    assert {parameter.dtype for parameter in source.parameters()} == {torch.float32}
    for name, tensor in StableDiffusionSource(str(folders["sdxl"])).unet.state_dict().items():
        assert torch.equal(source.unet.state_dict()[name], tensor.half().float()), name
    half = StableDiffusionSource(str(path), config=str(folders["sdxl"]), dtype="float16")
    assert half.unet.dtype == torch.float16
    assert half.vae.dtype == torch.float32  # SDXL's encoder overflows in float16
    assert half.to(torch.float32).unet.dtype == torch.float32


def test_the_noise_schedule_is_the_configurations(folders, single_files, tmp_path):
    config = shutil.copytree(folders["sd1"], tmp_path / "config")
    folder = StableDiffusionSource(str(config), noise=True)
    file = StableDiffusionSource(str(single_files["sd1"]), config=str(config), noise=True)
    assert_same_attention(file, folder)
    shutil.rmtree(config / "scheduler")
    StableDiffusionSource(str(single_files["sd1"]), config=str(config))
    with pytest.raises(WeightsError, match=r"lack scheduler/scheduler_config\.json, which --sou"):
        StableDiffusionSource(str(single_files["sd1"]), config=str(config), noise=True)


def test_the_libraries_are_silent(folders, single_files, capfd):
    for family in ("sd2", "sdxl"):
        source = StableDiffusionSource(str(single_files[family]), config=str(folders[family]))
        source.to(torch.bfloat16)(photos(1))
    assert capfd.readouterr() == ("", "")


def test_a_file_and_its_folder_share_a_fingerprint(folders, single_files, tmp_path):
    """What was computed with one serves the other; with other configurations it does not."""
    config = shutil.copytree(folders["sd1"], tmp_path / "config")
    folder = StableDiffusionSource(str(config)).fingerprint()
    file = StableDiffusionSource(str(single_files["sd1"]), config=str(config))
    assert file.fingerprint() == folder
    change_json(config / "vae" / "config.json", scaling_factor=0.5)
    scaled = StableDiffusionSource(str(single_files["sd1"]), config=str(config))
    assert scaled.fingerprint() != folder


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Prompts without a vocabulary


def write_official_tokenizer(folder, pad):
    """CLIP's 49408 tokens in their order, though but the bytes and the two marks by name.

    The first 256 are bytes, of which the first is "!"; the next 256 end a word; the last two mark
    where a text begins and ends.
    """
    first = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in first]
    characters += [chr(256 + index) for index in range(256 - len(first))]
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    tokens += [f"merged{index}" for index in range(49408 - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))
    config = {**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


# As the publishers' tokenizer_config.json have it: OpenCLIP pads with "!".
PADS = {
    "sd1": {"tokenizer": "<|endoftext|>"},
    "sd2": {"tokenizer": "!"},
    "sdxl": {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Tiny pipelines with CLIP's number of tokens and the official tokenizers."""
    root = tmp_path_factory.mktemp("official")
    folders = {}
    for family, pads in PADS.items():
        folder = folders[family] = make_pipeline(root / family, family, seed=3)
        for name, model_class in TEXT_ENCODERS.items():
            if (folder / name).is_dir():
                config = CLIPTextConfig.from_pretrained(folder / name)
                # As published; 2 stands for "the highest of the tokens".
                config.update({"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2})
                shutil.rmtree(folder / name)
                model_class(config).save_pretrained(folder / name)
        for name, pad in pads.items():
            shutil.rmtree(folder / name)
            write_official_tokenizer(folder / name, pad)
    return folders


@pytest.mark.parametrize("family", PADS)
def test_the_empty_prompt_needs_no_tokenizer(official, family, tmp_path):
    path = write_single_file(tmp_path / "x.safetensors", official[family])
    config = shutil.copytree(official[family], tmp_path / "config")
    for name in PADS[family]:
        shutil.rmtree(config / name)
    # What is left of model_index.json lists tokenizers that are not there.
    file = StableDiffusionSource(str(path), config=str(config))
    folder = StableDiffusionSource(str(official[family]))
    assert_same_attention(file, folder)
    tokenizers = [
        each.tokenizer for each in SingleFileCheckpoint(path, str(config)).text_encoders()
    ]
    theirs = SingleFileCheckpoint(path, str(official[family])).text_encoders()
    assert len(theirs) == len(PADS[family])
    for mine, other in zip(tokenizers, theirs, strict=True):
        assert isinstance(mine, EmptyPromptTokenizer)
        assert not isinstance(other.tokenizer, EmptyPromptTokenizer)
        assert torch.equal(mine(["", ""], 77), other.tokenizer(["", ""], 77))
    with pytest.raises(WeightsError, match=r"empty prompt, because .* but got 'a cat'.*\.config"):
        file(photos(), prompts=["", "a cat"])
    with pytest.raises(WeightsError, match="but got 'a dog'"):
        StableDiffusionSource(str(path), config=str(config), prompt="a dog")


def test_the_tokens_of_the_empty_prompt():
    """Begin, end, and what the rest of the 77 places hold."""
    assert EmptyPromptTokenizer(False)([""], 77).tolist() == [[49406] + [49407] * 76]
    assert EmptyPromptTokenizer(True)([""], 77).tolist() == [[49406, 49407] + [0] * 75]


def test_another_vocabulary_needs_its_tokenizer(folders, single_files, tmp_path):
    config = shutil.copytree(folders["sd1"], tmp_path / "config")
    shutil.rmtree(config / "tokenizer")
    with pytest.raises(WeightsError, match=r"lack the folder 'tokenizer'.* 49408 .* has 54"):
        StableDiffusionSource(str(single_files["sd1"]), config=str(config))


# The configurations of this package


def meta_pipeline(family):
    """The networks that a family's configurations describe, without memory, and the UNet's."""
    folder = bundled_configurations("sdxl" if family == "ssd1b" else family)
    config = UNet2DConditionModel.load_config(folder / "unet")
    config |= SSD1B if family == "ssd1b" else {}
    with torch.device("meta"):
        networks = {
            "unet": UNet2DConditionModel.from_config(config),
            "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
        }
        for name, model_class in TEXT_ENCODERS.items():
            if (folder / name).is_dir():
                networks[name] = model_class(CLIPTextConfig.from_pretrained(folder / name))
    return networks, config


def meta_file(family):
    """The names and shapes of a family's published file, as far as a configuration tells."""
    networks, config = meta_pipeline(family)
    parts = {name: network.state_dict() for name, network in networks.items()}
    with torch.device("meta"):
        return original(parts, config)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("family", "numbers"),
    [
        ("sd1", {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}),
        # Of OpenCLIP's 24 layers the last is not used.
        ("sd2", {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}),
        (
            "sdxl",
            {
                "unet": 2_567_463_684,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "text_encoder_2": 694_659_840,
            },
        ),
    ],
)
def test_the_published_numbers_of_parameters(family, numbers):
    networks, _ = meta_pipeline(family)
    assert {name: count(network) for name, network in networks.items()} == numbers


@pytest.mark.parametrize(
    ("family", "levels", "heads"),
    [
        # As many heads at every level, or 64 channels in every head.
        ("sd1", (1, 1, 1), {320: 8, 640: 8, 1280: 8}),
        ("sd2", (1, 1, 1), {320: 5, 640: 10, 1280: 20}),
        ("sdxl", (0, 2, 10), {640: 10, 1280: 20}),
    ],
)
def test_the_published_self_attention_layers(family, levels, heads):
    """Two blocks on each level on the way down, one in the middle, three each on the way up."""
    networks, _ = meta_pipeline(family)
    found = {
        name: module for name, module in networks["unet"].named_modules() if name.endswith(".attn1")
    }
    down = [
        f"down_blocks.{level}.attentions.{block}.transformer_blocks.{layer}.attn1"
        for level, layers in enumerate(levels)
        for block in (0, 1)
        for layer in range(layers)
    ]
    middle = [
        f"mid_block.attentions.0.transformer_blocks.{layer}.attn1" for layer in range(levels[-1])
    ]
    # SD 1.x and 2.x have a fourth level without attention, the first on the way up.
    first = 0 if family == "sdxl" else 1
    up = [
        f"up_blocks.{first + step}.attentions.{block}.transformer_blocks.{layer}.attn1"
        for step, layers in enumerate(reversed(levels))
        for block in (0, 1, 2)
        for layer in range(layers)
    ]
    assert sorted(found) == sorted(down + middle + up)
    assert len(found) == (70 if family == "sdxl" else 16)
    assert {module.to_q.in_features: module.heads for module in found.values()} == heads


@pytest.mark.parametrize(
    ("family", "scaling", "text"),
    [("sd1", 0.18215, ["quick_gelu"]), ("sd2", 0.18215, ["gelu"]),
     ("sdxl", 0.13025, ["quick_gelu", "gelu"])],
)  # fmt: skip
def test_the_published_constants(family, scaling, text):
    folder = bundled_configurations(family)
    vae = json.loads((folder / "vae" / "config.json").read_text())
    assert (vae["scaling_factor"], vae["latent_channels"]) == (scaling, 4)
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert (schedule["beta_start"], schedule["beta_end"]) == (0.00085, 0.012)
    assert (schedule["beta_schedule"], schedule["num_train_timesteps"]) == ("scaled_linear", 1000)
    configs = [
        CLIPTextConfig.from_pretrained(folder / f"text_encoder{i}") for i in ("", "_2")[: len(text)]
    ]
    for config, activation in zip(configs, text, strict=True):
        assert config.hidden_act == activation
        assert (config.vocab_size, config.max_position_embeddings) == (49408, 77)
        assert config.hidden_size // config.num_attention_heads == 64
        assert config.eos_token_id == 2


# Out of the published files: names and shapes that tell how the layout counts.
_FIRST_LEVEL = "model.diffusion_model.input_blocks.1.1"
PUBLISHED = {
    "sd1": {
        f"{_FIRST_LEVEL}.proj_in.weight": (320, 320, 1, 1),
        f"{_FIRST_LEVEL}.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.input_blocks.11.0.out_layers.3.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (10240, 1280),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.8.2.conv.weight": (640, 640, 3, 3),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.encoder.down.2.block.0.nin_shortcut.weight": (512, 256, 1, 1),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.weight": (768, 3072),
    },
    "sd2": {
        f"{_FIRST_LEVEL}.proj_in.weight": (320, 320),
        f"{_FIRST_LEVEL}.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        "cond_stage_model.model.positional_embedding": (77, 1024),
        "cond_stage_model.model.text_projection": (1024, 1024),
        "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
        "cond_stage_model.model.transformer.resblocks.22.mlp.c_fc.bias": (4096,),
        "cond_stage_model.model.logit_scale": (),
    },
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (640, 2048),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn1.to_q.weight": (1280, 1280),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (640, 640, 3, 3),
        "model.diffusion_model.output_blocks.8.0.skip_connection.weight": (320, 640, 1, 1),
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_bias": (3840,),
    },
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_builder_of_these_tests_names_what_the_publishers_have(family):
    found = {name: tuple(tensor.shape) for name, tensor in meta_file(family).items()}
    assert {name: found.get(name) for name in PUBLISHED[family]} == PUBLISHED[family]
    unet = [name for name in found if name.startswith("model.diffusion_model.")]
    assert len(unet) == (1680 if family == "sdxl" else 686)
    assert len([name for name in found if name.startswith("first_stage_model.")]) == 248


@pytest.fixture
def hollow(tmp_path):
    """Writes a file of a family at its real size; of zeros, so that it takes no room."""
    return lambda family: write_hollow_file(tmp_path / f"{family}.safetensors", meta_file(family))


@pytest.mark.parametrize(("family", "dimensions"), [("sd1", 768), ("sd2", 1024)])
def test_a_file_alone_is_enough(hollow, family, dimensions):
    source = StableDiffusionSource(str(hollow(family)), noise=True)
    assert len(source.layer_names) == 16
    assert source._embeddings.shape == (1, 77, dimensions)
    assert source.vae.config.scaling_factor == 0.18215
    assert source.size_multiple == 64


def test_the_networks_of_ssd1b_in_a_file_alone(hollow):
    """2*2 + 2*4 layers on the way down, 4 + 4 + 10 and 2 + 1 + 1 on the way up, 1.3 billion."""
    checkpoint = SingleFileCheckpoint(hollow("ssd1b"))
    unet = checkpoint.unet(torch.float32)
    assert count(unet) == 1_331_334_404
    assert len([name for name in unet.attn_processors if ".attn1." in name]) == 12 + 22
    assert checkpoint.vae_encoder(torch.float32).config.scaling_factor == 0.13025


@pytest.mark.full_size
@pytest.mark.parametrize(("family", "layers"), [("sdxl", 70), ("ssd1b", 34)])
def test_a_file_of_xl_alone_is_enough(hollow, family, layers):
    """The text encoders run: 4 GB of memory."""
    source = StableDiffusionSource(str(hollow(family)))
    assert len(source.layer_names) == layers
    assert source._embeddings.shape == (1, 77, 2048)
    assert source._pooled.shape == (1, 1280)


# Varieties of SDXL


@pytest.mark.parametrize(("variety", "billions"), [(SSD1B, 1.3), (VEGA, 0.74)])
def test_layers_that_were_taken_out_are_counted(variety, billions):
    config = UNet2DConditionModel.load_config(bundled_configurations("sdxl") / "unet")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config | variety)
    names = [f"{original_layout.UNET}{name}" for name in original_unet(unet.state_dict(), 2)]
    found = original_layout.unet_variety(names, config)
    assert found == variety
    assert count(unet) / 1e9 == pytest.approx(billions, abs=0.04)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_published_unet_is_its_configuration(family):
    networks, config = meta_pipeline(family)
    variety = original_layout.unet_variety(meta_file(family), config)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config | variety)
    shapes = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    assert shapes == {k: v.shape for k, v in networks["unet"].state_dict().items()}


def test_a_unet_without_a_middle():
    config = UNet2DConditionModel.load_config(bundled_configurations("sdxl") / "unet")
    names = [name for name in meta_file("ssd1b") if "middle_block" not in name]
    assert original_layout.unet_variety(names, config) == SSD1B | {"mid_block_type": None}


@pytest.fixture
def tiny_configurations(folders, monkeypatch):
    """The tiny pipelines stand for the published ones."""
    monkeypatch.setattr(original_layout, "_FAMILIES", {16: "sd1", 32: "sdxl"})
    monkeypatch.setattr(single_file, "bundled_configurations", folders.__getitem__)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "ssd1b"])
def test_varieties_are_computed_as_their_own_configuration_says(
    folders, single_files, family, tiny_configurations
):
    """SSD-1B's file with SDXL's configurations, from which the names of its tensors differ."""
    file = StableDiffusionSource(str(single_files[family]))
    assert_same_attention(file, StableDiffusionSource(str(folders[family])))


# Memory


def test_only_the_tensors_that_are_needed_are_looked_at(folders, single_files, monkeypatch):
    """What the file is asked for is written down: no decoder, no copies of the training's end."""
    asked = []

    class Opened:
        def __init__(self, *args, **kwargs):
            self._file = safe_open(*args, **kwargs)

        def __enter__(self):
            self._file.__enter__()
            return self

        def __exit__(self, *args):
            self._file.__exit__(*args)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def get_tensor(self, name):
            asked.append(name)
            return self._file.get_tensor(name)

    safe_open = single_file.safe_open
    monkeypatch.setattr(single_file, "safe_open", Opened)
    StableDiffusionSource(str(single_files["sd1"]), config=str(folders["sd1"]))
    prefixes = {".".join(name.split(".")[:2]) for name in asked}
    assert prefixes == {
        "cond_stage_model.transformer",
        "first_stage_model.encoder",
        "first_stage_model.quant_conv",
        "model.diffusion_model",
    }
    assert len(asked) == len(set(asked))
    assert {"alphas_cumprod", "first_stage_model.decoder.conv_in.weight"} <= set(
        load_file(single_files["sd1"])
    )


_GROWTH = """
import re, sys, torch
from pathlib import Path
from diffsegkit.sources.stable_diffusion.single_file import SingleFileCheckpoint

def peak():
    # Pages of the file count as soon as they are touched.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

checkpoint = SingleFileCheckpoint(Path(sys.argv[1]))
before = peak()
vae, unet = checkpoint.vae_encoder(torch.float32), checkpoint.unet(torch.float32)
print(peak() - before, sum(parameter.numel() for parameter in unet.parameters()))
"""


def test_tensors_are_mapped_and_not_copied(hollow):
    """Loading 3.6 GB of networks from a file in their dtype takes a few MiB, until they run."""
    command = [sys.executable, "-c", _GROWTH, hollow("sd1")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    growth, parameters = run.stdout.split()
    assert int(parameters) == 859_520_964
    assert float(growth) < 200


# What is not a Stable Diffusion in one file


def test_a_pickle_is_refused(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match=r"Expected a .safetensors file.* can run code"):
        StableDiffusionSource(str(tmp_path / "x.ckpt"))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.safetensors' is missing"):
        StableDiffusionSource(str(tmp_path / "nothing.safetensors"))


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.5, 0.999])
def test_a_truncated_file_is_told(single_files, folders, tmp_path, share):
    content = single_files["sd1"].read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"cut\.safetensors' is (truncated|empty)"):
        StableDiffusionSource(str(path), config=str(folders["sd1"]))


def lora(_):
    return {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 8)}


def lone_vae(tensors):
    prefix = "first_stage_model."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def lone_unet(tensors):
    return {k: v for k, v in tensors.items() if k.startswith("model.diffusion_model.")}


def without_text(tensors):
    return {k: v for k, v in tensors.items() if not k.startswith("cond_stage_model.")}


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lora, "it is a LoRA"),
        (lone_vae, "it is an autoencoder alone"),
        (lone_unet, "it has no autoencoder and no text encoder"),
        (without_text, "it has no text encoder;"),
        (lambda _: {"fc.weight": torch.zeros(2)}, "it has other tensors, such as 'fc.weight'"),
        (lambda _: {}, "it has no tensors"),
    ],
)
def test_a_file_of_something_else_is_told(
    folders, single_files, tmp_path, choose, message, with_config
):
    path = tmp_path / "x.safetensors"
    save_file(choose(load_file(single_files["sd1"])), path)
    config = str(folders["sd1"]) if with_config else None
    with pytest.raises(WeightsError, match=rf"to hold a whole Stable Diffusion .*but {message}"):
        StableDiffusionSource(str(path), config=config)


@pytest.mark.parametrize("component", ["unet", "vae"])
def test_one_component_of_diffusers_is_told(folders, component):
    path = folders["sd1"] / component / "diffusion_pytorch_model.safetensors"
    with pytest.raises(WeightsError, match="it is one component in the layout of diffusers"):
        StableDiffusionSource(str(path))


def test_an_unknown_family_needs_its_configurations(single_files):
    with pytest.raises(WeightsError, match=r"is not that of .* with --source\.config FOLDER"):
        StableDiffusionSource(str(single_files["sd1"]))


@pytest.mark.parametrize(
    "change",
    [
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 9, 3, 3)},
        # The refiner of SDXL.
        {f"{_FIRST_LEVEL}.transformer_blocks.0.attn2.to_k.weight": torch.zeros(384, 1280)},
        # Playground 2.5.
        {"edm_mean": torch.zeros(1)},
    ],
)
def test_other_members_of_a_family_are_not_taken_for_it(tmp_path, change):
    path = write_hollow_file(tmp_path / "x.safetensors", meta_file("sd1") | change)
    with pytest.raises(WeightsError, match="or one of theirs for inpainting or editing"):
        StableDiffusionSource(str(path))


PREFIXES = {
    "unet": "model.diffusion_model.output_blocks.3.0.in_layers.2.weight",
    "vae": "first_stage_model.encoder.mid.block_2.conv1.bias",
    "text_encoder": "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight",
}


@pytest.mark.parametrize("part", PREFIXES)
def test_a_missing_tensor_is_told(folders, tmp_path, part):
    path = write_single_file(
        tmp_path / "x.safetensors",
        folders["sd1"],
        change=lambda tensors: tensors.pop(PREFIXES[part]),
    )
    with pytest.raises(WeightsError, match=rf"The {part} in .* tensors are missing"):
        StableDiffusionSource(str(path), config=str(folders["sd1"]))


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_tensor_without_a_place_is_told(folders, tmp_path, part):
    """Otherwise a network with more layers than its configuration would run without them."""
    name = PREFIXES[part] + "2"
    path = write_single_file(
        tmp_path / "x.safetensors",
        folders["sd1"],
        change=lambda tensors: tensors.update({name: torch.zeros(3)}),
    )
    with pytest.raises(WeightsError, match=rf"The {part} in .* it has (\d+) tensors, and \d+ were"):
        StableDiffusionSource(str(path), config=str(folders["sd1"]))


def test_a_tensor_of_another_shape_is_told(folders, tmp_path):
    path = write_single_file(
        tmp_path / "x.safetensors",
        folders["sd1"],
        change=lambda tensors: tensors.update({PREFIXES["unet"]: torch.zeros(3)}),
    )
    with pytest.raises(WeightsError, match=r"up_blocks\.1\.resnets\.0\.conv1.* expected shape"):
        StableDiffusionSource(str(path), config=str(folders["sd1"]))


@pytest.mark.parametrize(("family", "other"), [("sd1", "sdxl"), ("sdxl", "sd1"), ("sdxl", "ssd1b"),
                                               ("ssd1b", "sdxl"), ("sd1", "sd2")])  # fmt: skip
def test_the_configurations_of_another_model_are_told(folders, single_files, family, other):
    with pytest.raises(WeightsError, match=r"with --source\.config FOLDER, or another file"):
        StableDiffusionSource(str(single_files[family]), config=str(folders[other]))


def test_configurations_that_lack_a_file_are_told(folders, single_files, tmp_path):
    config = shutil.copytree(folders["sd1"], tmp_path / "config")
    (config / "unet" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"lacks unet/config\.json"):
        StableDiffusionSource(str(single_files["sd1"]), config=str(config))
    (config / "unet" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"unet/config\.json' is damaged"):
        StableDiffusionSource(str(single_files["sd1"]), config=str(config))


def test_configurations_need_no_weights(folders, single_files, tmp_path):
    config = shutil.copytree(
        folders["sd1"], tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors")
    )
    StableDiffusionSource(str(single_files["sd1"]), config=str(config))


def test_configurations_of_the_hub_without_a_network(single_files, attempts, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    message = r"'nobody/nothing-of-the-kind' .*or give a local copy with --source\.config FOLDER"
    with pytest.raises(DownloadError, match=message):
        StableDiffusionSource(str(single_files["sd1"]), config="nobody/nothing-of-the-kind")
    attempts.clear()


def test_a_wrong_folder_of_configurations_names_the_option(single_files):
    with pytest.raises(WeightsError, match=re.escape("--source.config: there is no folder './no'")):
        StableDiffusionSource(str(single_files["sd1"]), config="./no")


def test_without_accelerate_the_extra_is_named(folders, single_files, monkeypatch):
    monkeypatch.setattr(single_file, "find_spec", lambda name: None)
    with pytest.raises(ComponentError, match=r"needs accelerate: pip install 'diffsegkit\[sd\]'"):
        StableDiffusionSource(str(single_files["sd1"]), config=str(folders["sd1"]))


def test_the_suffix_may_be_a_folders(folders, tmp_path):
    """A folder is a folder, whatever its name."""
    folder = Path(shutil.copytree(folders["sd1"], tmp_path / "model.safetensors"))
    assert len(StableDiffusionSource(str(folder)).layer_names) == 16
