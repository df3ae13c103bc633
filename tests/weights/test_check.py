"""A folder with a missing file, a wrong file, a truncated file: what is said of each."""

import json
import os
import pickle
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffsegkit.errors import WeightsError
from diffsegkit.weights import (
    ComponentFiles,
    ModelFiles,
    check_folder,
    check_safetensors,
    find_model,
    find_variant,
)
from tests.weights.models import (
    pipeline,
    transformer,
    write_pipeline,
    write_shards,
    write_transformer,
    write_weights,
)

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return write_pipeline(tmp_path / "model")


def refusal(files):
    """What is said, which is one sentence."""
    with pytest.raises(WeightsError) as caught:
        find_model(files)
    message = str(caught.value)
    assert re.search(r"[.!]$", message)
    assert "\n" not in message
    return message


def test_a_complete_folder(folder, tmp_path, monkeypatch):
    assert find_model(pipeline(folder)) == folder
    assert find_model(transformer(write_transformer(tmp_path / "vit"))) == tmp_path / "vit"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model(pipeline("~/model")) == folder
    monkeypatch.chdir(tmp_path)
    assert find_model(pipeline("model")).samefile(folder)


@pytest.mark.parametrize(
    "name", ["vae/config.json", UNET, "text_encoder/model.safetensors", "tokenizer/merges.txt"]
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    message = refusal(pipeline(folder))
    assert f"The model in {str(folder)!r} lacks" in message
    assert name in message
    assert message.endswith("; copy what is missing there, or download the model again.")


def test_several_missing_files_are_in_one_sentence(folder):
    shutil.rmtree(folder / "vae")
    (folder / "tokenizer" / "vocab.json").unlink()
    assert (
        "lacks vae/config.json, vae/diffusion_pytorch_model.safetensors and "
        "tokenizer/tokenizer.json or tokenizer/vocab.json; copy" in refusal(pipeline(folder))
    )
    for name in ("unet", "text_encoder", "tokenizer"):
        shutil.rmtree(folder / name)
    assert "and 3 more; copy" in refusal(pipeline(folder))


def test_one_of_several_files_will_do(folder):
    (folder / "tokenizer" / "vocab.json").unlink()
    (folder / "tokenizer" / "merges.txt").unlink()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    find_model(pipeline(folder))


def test_optional_components_are_as_the_index_says(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "lacks text_encoder_2/config.json" in refusal(pipeline(folder))
    # Without an index the folder tells.
    (folder / "model_index.json").unlink()
    find_model(pipeline(folder))
    (folder / "text_encoder_2").mkdir()
    (folder / "text_encoder_2" / "config.json").write_text("{}")
    assert "lacks text_encoder_2/model.safetensors" in refusal(pipeline(folder))
    (folder / "model_index.json").write_text("[1]")
    assert "to hold the model's components by name, but it holds a list" in refusal(
        pipeline(folder)
    )


@pytest.mark.parametrize("other", ["diffusion_pytorch_model.bin", "model.ckpt", "flax.msgpack"])
def test_other_formats_are_not_loaded(folder, other):
    (folder / UNET).rename(folder / "unet" / other)
    message = refusal(pipeline(folder))
    assert f"has unet/{other} where {UNET} was expected" in message
    assert "can run code" in message
    assert "save_pretrained(..., safe_serialization=True)" in message
    assert "https://huggingface.co/spaces/safetensors/convert" in message


def test_weights_of_another_name(folder):
    (folder / UNET).rename(folder / "unet" / "weights.safetensors")
    assert f"has unet/weights.safetensors where {UNET}" in refusal(pipeline(folder))


def test_only_another_variant(tmp_path):
    folder = write_pipeline(tmp_path / "model", variant="fp16")
    message = refusal(pipeline(folder))
    assert "only as the variant 'fp16': give --source.variant fp16." in message
    assert find_model(pipeline(folder, variant="fp16")) == folder
    assert "only as the variant 'fp16'" in refusal(pipeline(folder, variant="bf16"))


def test_a_component_without_the_variant_gives_its_plain_file(folder):
    files = pipeline(folder, variant="fp16")
    unet, vae = files.components[2], files.components[1]
    # That no component has it is a mistake, and no wish for another precision.
    assert "has no variant 'fp16', only the plain one (null): choose with --source.variant" in (
        refusal(files)
    )
    shutil.copy(folder / UNET, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    assert find_model(files) == folder
    assert find_variant(folder, unet, "fp16") == "fp16"
    assert find_variant(folder, vae, "fp16") is None
    # What is checked is what is loaded.
    (folder / UNET).write_bytes(b"")
    find_model(files)
    assert "diffusion_pytorch_model.safetensors' is empty" in refusal(pipeline(folder))


@pytest.mark.parametrize(
    ("variant", "index", "prefix"),
    [
        (None, "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model"),
        ("fp16", "diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model.fp16"),
        ("fp16", "diffusion_pytorch_model.safetensors.fp16.index.json", "diffusion_pytorch_model.fp16"),
    ],
)  # fmt: skip
def test_shards(folder, variant, index, prefix):
    """The names are those that diffusers gives them; the last is what it once gave."""
    (folder / UNET).unlink()
    shards = write_shards(folder / "unet", "diffusion_pytorch_model", index, prefix)
    components = (ComponentFiles("unet", "diffusion_pytorch_model"),)
    files = ModelFiles(str(folder), components, variant=variant)
    assert find_model(files) == folder
    path = folder / "unet" / shards[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert f"{str(path)!r} is truncated" in refusal(files)
    path.unlink()
    assert f"{str(path)!r} is missing, which {index!r} lists" in refusal(files)
    write_weights(path, "something.else")
    assert f"{str(path)!r} lacks the tensor 'conv_1.weight'" in refusal(files)


def test_the_index_is_named_as_diffusers_names_it(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(32,), norm_num_groups=8,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    for variant in (None, "fp16"):
        folder = tmp_path / str(variant)
        unet.save_pretrained(folder / "unet", variant=variant, max_shard_size="50KB")
        assert len(list((folder / "unet").glob("*-of-*"))) > 1
        components = (ComponentFiles("unet", "diffusion_pytorch_model"),)
        assert find_model(ModelFiles(str(folder), components, variant=variant)) == folder


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is damaged: JSON was expected"),
        ("[]", "to list tensors and their files in a 'weight_map'"),
        ('{"weight_map": {}}', "to list tensors and their files in a 'weight_map'"),
        ('{"weight_map": {"a": "../../x.safetensors"}}', "lists '../../x.safetensors' among"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "lists '/etc/x.safetensors' among"),
        ('{"weight_map": {"a": "model.bin"}}', "lists 'model.bin' among"),
        ('{"weight_map": {"a": 3}}', "lists 3 among its files"),
    ],
)
def test_a_bad_index(tmp_path, content, expected):
    folder = write_transformer(tmp_path / "vit")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    assert expected in refusal(transformer(folder))


def test_the_weights_of_something_else(folder):
    shutil.copy(folder / "text_encoder/model.safetensors", folder / UNET)
    message = refusal(pipeline(folder))
    assert "holds the weights of something else: a tensor 'conv_in.weight' was expected" in message


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 335\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty; copy or download it again."),
        (b"12", "is truncated: it has 2 bytes"),
        (POINTER, "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page, not the file itself"),
        (b"<HTML>" + bytes(600), "is a web page, not the file itself"),
        (b"PK\x03\x04" + bytes(600), "is not a safetensors file, but a PyTorch checkpoint"),
        (pickle.dumps(list(range(99)), 2), "is not a safetensors file, but a PyTorch checkpoint"),
        (b"GGUF" + b"\x01" * 600, "is not a safetensors file, but a GGUF file"),
        (b"\x05" + bytes(7) + b"hello", "is not a safetensors file"),
        (b"\x05" + bytes(7) + b"{hell", "is damaged: the header of a safetensors file was"),
        (b"\x02" + bytes(7) + b"{}x", "is damaged: it has 11 bytes, but its header promises 10"),
        (b'\x07\0\0\0\0\0\0\0{"a":3}', "is damaged: the header of a safetensors file was"),
        (b"\xff" * 100, "is not a safetensors file"),
    ],
)  # fmt: skip
def test_not_the_weights(folder, content, expected):
    (folder / UNET).write_bytes(content)
    assert f"{str(folder / UNET)!r} {expected}" in refusal(pipeline(folder))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"{", "is damaged: JSON was expected, but it cannot be read"),
        (b"\xff\xfe\xff", "is damaged: JSON was expected"),
        (b"[" * 100_000, "is damaged: JSON was expected"),
        (POINTER, "is a Git LFS pointer"),
        (b"<!doctype html>", "is a web page"),
    ],
)
@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/tokenizer_config.json"])
def test_unreadable_json(folder, name, content, expected):
    (folder / name).write_bytes(content)
    assert f"{str(folder / name)!r} {expected}" in refusal(pipeline(folder))


def test_the_library_has_the_last_word(tmp_path):
    """Headers that are consistent with the size, and wrong nevertheless."""
    header = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match="is no valid safetensors file"):
        check_safetensors(path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(data=st.data())
def test_every_truncation_is_noticed(tmp_path, data):
    path = tmp_path / "a.safetensors"
    write_weights(path, "a", "b")
    check_safetensors(path)
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    with pytest.raises(WeightsError, match="is (truncated|empty)") as caught:
        check_safetensors(str(path))
    assert not length or f"it has {length} bytes" in str(caught.value)


def test_truncated_weights_say_how_much_is_there(folder):
    whole = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(whole[:-10])
    expected = f"is truncated: it has {len(whole) - 10} bytes, but its header promises {len(whole)}"
    assert expected in refusal(pipeline(folder))


def test_links(folder):
    elsewhere = folder / "elsewhere.safetensors"
    (folder / UNET).rename(elsewhere)
    (folder / UNET).symlink_to(elsewhere)
    find_model(pipeline(folder))
    elsewhere.unlink()
    assert f"{str(folder / UNET)!r} is a link to a file that is not there" in refusal(
        pipeline(folder)
    )


def test_a_file_in_place_of_a_folder(folder):
    shutil.rmtree(folder / "unet")
    (folder / "unet").write_text("")
    assert "has a file in place of the folder 'unet'" in refusal(pipeline(folder))


def test_no_folder_at_all(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given_ in ("/no/where", "./model2", "~/nothing", "a/b/c", "..\\models", "~nobody-here/x"):
        message = refusal(pipeline(given_))
        assert repr(given_) in message
        assert "there is no folder" in message or "cannot be read" in message
    for given_ in ("", " ", "two words", "a--b", "owner/", "x\0y", "ü/model"):
        assert "expected a model's folder, or an id on the hub" in refusal(pipeline(given_))
    assert f"but {str(folder / UNET)!r} is a file" in refusal(pipeline(folder / UNET))
    assert "cannot be read" in refusal(pipeline("x" * 5000))
    with pytest.raises(WeightsError, match="There is no folder"):
        check_folder(tmp_path / "nothing", pipeline("x/y"))
    with pytest.raises(WeightsError, match="Expected a model's folder, but .* is a file"):
        check_folder(folder / UNET, pipeline("x/y"))


def test_a_folder_of_the_cache(tmp_path):
    snapshot = write_pipeline(tmp_path / "models--a--b" / "snapshots" / "0123")
    find_model(pipeline(snapshot))
    assert "give the one below its 'snapshots'" in refusal(pipeline(tmp_path / "models--a--b"))


def test_no_permission(folder, monkeypatch):
    """By way of Python, because the superuser may read everything."""
    scandir, locked = os.scandir, folder / "unet"

    def refuse(path):
        if os.fspath(path) == str(locked):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"The folder {str(locked)!r} cannot be read (Permission denied); check" in refusal(
        pipeline(folder)
    )
    monkeypatch.setattr(os, "scandir", scandir)
    path_open = type(folder).open

    def refuse_file(self, *args, **kwargs):
        if self == folder / UNET:
            raise PermissionError(13, "Permission denied")
        return path_open(self, *args, **kwargs)

    monkeypatch.setattr(type(folder), "open", refuse_file)
    assert f"{str(folder / UNET)!r} cannot be read (Permission denied); check" in refusal(
        pipeline(folder)
    )
