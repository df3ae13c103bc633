"""Fetching from a hub: exactly what is needed, again after every interruption."""

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffsegkit.errors import ComponentError, DownloadError, WeightsError
from diffsegkit.weights import (
    ComponentFiles,
    ModelFiles,
    download_model,
    find_model,
    model_state,
)
from tests.weights.hub import COMMIT, OTHER_COMMIT
from tests.weights.models import pipeline, transformer, write_shards, write_weights

VIT = transformer("owner/vit")
PIPELINE = pipeline("owner/pipeline")
LOCAL_COPY = "or give a local copy with --source.model FOLDER."


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(files, kind=DownloadError):
    with pytest.raises(kind) as caught:
        find_model(files)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    if kind is DownloadError:
        assert message.endswith(LOCAL_COPY)
    return message


def blobs(hub, model="owner--vit"):
    return sorted((hub.cache / f"models--{model}" / "blobs").iterdir())


def partials(hub, model="owner--vit"):
    return [path for path in blobs(hub, model) if path.name.endswith(".incomplete")]


def test_exactly_what_is_needed(hub, caplog):
    served = hub.models["owner/pipeline"]
    wanted = contents(served)
    for name in (
        "README.md", "v1-4.ckpt", "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/model.onnx",
        "unet/diffusion_flax_model.msgpack", "vae/diffusion_pytorch_model.non_ema.safetensors",
        "safety_checker/model.safetensors", "safety_checker/config.json",
        "text_encoder_2/model.safetensors", "text_encoder_2/config.json",
    ):  # fmt: skip
        (served / name).parent.mkdir(exist_ok=True)
        (served / name).write_bytes(b"not needed")
    with caplog.at_level(logging.INFO, "diffsegkit"):
        folder = find_model(PIPELINE)
    assert contents(folder) == wanted
    assert sorted(hub.fetched()) == sorted(wanted)
    assert not partials(hub, "owner--pipeline")
    total = sum(map(len, wanted.values()))
    [message] = [each.message for each in caplog.records if each.name == "diffsegkit"]
    assert message.startswith(f"owner/pipeline: 10 files, {total / 1000:.1f} kB")
    # The second time nobody is asked.
    hub.log.clear()
    assert find_model(PIPELINE) == folder
    assert not hub.log


def test_small_files_come_first(hub):
    find_model(PIPELINE)
    assert [name.endswith(".safetensors") for name in hub.fetched()] == [False] * 7 + [True] * 3


def test_the_library_finds_what_was_fetched(hub):
    """It is the same cache, so diffusers and transformers find the files too."""
    from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

    folder = find_model(VIT)
    assert try_to_load_from_cache("owner/vit", "model.safetensors") == str(
        folder / "model.safetensors"
    )
    assert snapshot_download("owner/vit", local_files_only=True) == str(folder)
    [repo] = scan_cache_dir(hub.cache).repos
    assert repo.size_on_disk == sum(map(len, contents(hub.models["owner/vit"]).values()))
    assert [revision.refs for revision in repo.revisions] == [frozenset({"main"})]


def test_what_the_library_fetched_is_found(hub):
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        hf_hub_download("owner/vit", name)
    hub.log.clear()
    find_model(VIT)
    assert not hub.log


def test_the_variant_and_the_plain_file_where_there_is_none(hub):
    served = hub.models["owner/pipeline"]
    for name in ("vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model"):
        shutil.copy(served / f"{name}.safetensors", served / f"{name}.fp16.safetensors")
    folder = find_model(pipeline("owner/pipeline", variant="fp16"))
    assert sorted(name for name in hub.fetched() if name.endswith(".safetensors")) == [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    # The plain ones are other files, and fetched when they are asked for.
    assert not model_state(PIPELINE).complete
    assert find_model(PIPELINE) == folder
    message = refusal(pipeline("owner/pipeline", variant="fp32"), WeightsError)
    assert "only the plain one (null) and 'fp16': choose with --source.variant" in message


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards(hub, variant):
    served = hub.models["owner/pipeline"]
    middle = f".{variant}" if variant else ""
    (served / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = f"diffusion_pytorch_model.safetensors.index{middle}.json"
    prefix = f"diffusion_pytorch_model{middle}"
    shards = write_shards(served / "unet", "diffusion_pytorch_model", index, prefix)
    (served / "unet/diffusion_pytorch_model-00009-of-00009.safetensors").write_bytes(b"other")
    files = ModelFiles(
        "owner/pipeline", (ComponentFiles("unet", "diffusion_pytorch_model"),), variant=variant
    )
    state = download_model(files)
    expected = ["unet/config.json", f"unet/{index}", *(f"unet/{name}" for name in shards)]
    assert sorted(hub.fetched()) == sorted(state.names) == sorted(expected)
    assert state.size == sum((served / name).stat().st_size for name in expected)
    # The index is believed about its neighbours alone.
    hub.models["owner/other"] = served
    (served / "unet" / shards[0]).unlink()
    files = ModelFiles("owner/other", files.components, variant=variant)
    assert f"'owner/other' on the hub lacks unet/{shards[0]};" in refusal(files, WeightsError)
    content = {"weight_map": {"a": "../../../../secret.safetensors"}}
    (served / "unet" / index).write_text(json.dumps(content))
    assert "among its files" in refusal(files, WeightsError)


def test_optional_components(hub):
    served = hub.models["owner/pipeline"]
    index = json.loads((served / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (served / "model_index.json").write_text(json.dumps(index))
    assert "lacks text_encoder_2/config.json" in refusal(PIPELINE, WeightsError)
    (served / "text_encoder_2").mkdir()
    (served / "text_encoder_2" / "config.json").write_text("{}")
    write_weights(served / "text_encoder_2" / "model.safetensors", "a")
    assert "text_encoder_2/model.safetensors" in download_model(PIPELINE).names


def test_only_formats_that_run_code(hub):
    served = hub.models["owner/vit"]
    (served / "model.safetensors").rename(served / "pytorch_model.bin")
    message = refusal(VIT, WeightsError)
    assert "The model 'owner/vit' on the hub has pytorch_model.bin where model.safetensors" in (
        message
    )
    assert not hub.fetched()


def test_a_revision(hub):
    hub.revisions["v2"] = OTHER_COMMIT
    assert find_model(transformer("owner/vit", revision="v2")).name == OTHER_COMMIT
    assert find_model(VIT).name == COMMIT
    hub.log.clear()
    assert find_model(transformer("owner/vit", revision=COMMIT)).name == COMMIT
    assert find_model(transformer("owner/vit", revision="v2")).name == OTHER_COMMIT
    assert not hub.log
    message = refusal(transformer("owner/vit", revision="v3"))
    assert "'owner/vit' on the hub has no revision 'v3': give one of" in message
    message = refusal(transformer("owner/vit", revision="../../../x"), WeightsError)
    assert "--source.revision: expected a branch, tag or commit" in message


def test_a_connection_that_breaks_is_taken_up_again(hub):
    """At once, where the break is short."""
    name = "model.safetensors"
    hub.cut[name] = [5000, 10_000]
    folder = find_model(VIT)
    assert contents(folder) == contents(hub.models["owner/vit"])
    ranges = [wanted for method, what, wanted in hub.log if method == "GET" and what == name]
    assert ranges == [None, "bytes=5000-", "bytes=15000-"]


def test_the_same_command_goes_on_where_it_stopped(hub):
    name = "model.safetensors"
    hub.cut[name] = [5000, *[0] * 5]
    message = refusal(VIT)
    assert "The connection to the hub" in message
    assert "run the same command again, which goes on where it stopped" in message
    [partial] = partials(hub)
    assert partial.stat().st_size == 5000
    state = model_state(VIT)
    assert not state.complete
    assert "lacks model.safetensors" in state.problem
    hub.log.clear()
    folder = find_model(VIT)
    assert contents(folder) == contents(hub.models["owner/vit"])
    assert hub.fetched() == [name]  # the others are there
    assert ("GET", name, "bytes=5000-") in hub.log
    assert not partials(hub)


def test_a_server_without_ranges_sends_everything_again(hub):
    hub.cut["model.safetensors"] = [5000]
    hub.ranges = False
    folder = find_model(VIT)
    assert contents(folder) == contents(hub.models["owner/vit"])


def test_large_files_are_elsewhere(hub, monkeypatch):
    """The hub sends on to another host, which must not see the token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    name, tokens = "model.safetensors", {}
    serve = hub.serve

    def note(request, *args, **kwargs):
        host = request.headers["Host"].partition(":")[0]
        tokens.setdefault(host, set()).add(request.headers.get("Authorization"))
        return serve(request, *args, **kwargs)

    monkeypatch.setattr(hub, "serve", note)
    hub.redirect = True
    hub.cut[name] = [5000]
    assert contents(find_model(VIT)) == contents(hub.models["owner/vit"])
    assert tokens == {"127.0.0.1": {"Bearer hf_secret"}, "localhost": {None}}
    assert ("GET", name, "bytes=5000-") in hub.log


SCRIPT = """
import sys
from diffsegkit.weights import find_model
from tests.weights.models import transformer
try:
    print(find_model(transformer("owner/vit")))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_can_be_continued(hub, how):
    name = "model.safetensors"
    served = hub.models["owner/vit"]
    write_weights(served / name, "embeddings.cls_token", size=200_000)
    half = threading.Event()

    def pace():
        time.sleep(0.01)
        if partials(hub) and partials(hub)[0].stat().st_size > 100_000:
            half.set()

    hub.pace = pace
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[2])
    assert half.wait(60)
    process.send_signal(how)
    assert process.wait(60) == (130 if how is signal.SIGINT else -how)
    [partial] = partials(hub)
    size = partial.stat().st_size
    assert 0 < size < (served / name).stat().st_size
    assert not model_state(VIT).complete
    hub.pace = None
    hub.log.clear()
    assert contents(find_model(VIT)) == contents(served)
    assert ("GET", name, f"bytes={size}-") in hub.log


def test_several_at_once_fetch_each_file_once(hub):
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(find_model, [PIPELINE] * 3))
    assert len(set(folders)) == 1
    assert contents(folders[0]) == contents(hub.models["owner/pipeline"])
    assert len(hub.fetched()) == len(set(hub.fetched()))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_is_altered_on_the_way_is_refused(hub, name):
    content = (hub.models["owner/vit"] / name).read_bytes()
    for altered in (bytes(len(content)), content + b"x"):
        hub.alter[name] = altered
        assert f"What came for {name!r} of 'owner/vit' was refused" in refusal(VIT)
        assert not partials(hub)
        assert not model_state(VIT).complete
    hub.alter[name] = content[:-1]
    assert "The connection to the hub" in refusal(VIT)
    hub.alter.clear()
    assert contents(find_model(VIT)) == contents(hub.models["owner/vit"])


@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroed", "removed"])
def test_what_is_damaged_in_the_cache_is_fetched_again(hub, damage):
    folder = find_model(VIT)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.resolve().write_bytes(
        {"truncated": content[:-7], "emptied": b"", "zeroed": bytes(len(content))}.get(damage, b"")
    )
    if damage == "removed":
        path.resolve().unlink()
    state = model_state(VIT)
    assert not state.complete
    assert str(path) in state.problem
    hub.log.clear()
    assert contents(find_model(VIT)) == contents(hub.models["owner/vit"])
    assert hub.fetched() == ["model.safetensors"]


def test_no_such_model(hub):
    message = refusal(transformer("owner/vitt"))
    assert message.startswith("There is no model 'owner/vitt' on the hub, or it is private: check")
    assert "`hf auth login` (or set HF_TOKEN)" in message
    hub.listing_refusal = (404, {"X-Error-Code": "RepoNotFound"})
    assert "There is no model 'owner/vit' on the hub" in refusal(VIT)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model(hub, status):
    """The listing is public, the files are not."""
    hub.refusal = (status, {"X-Error-Code": "GatedRepo"})
    message = refusal(VIT)
    assert f"only to those who accepted its licence: do so at {hub.endpoint}/owner/vit" in message
    assert "`hf auth login` (or set HF_TOKEN)" in message


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "renew the token"),
        (403, {}, "with status 403: log in"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "with status 403"),
        (404, {"X-Error-Code": "EntryNotFound"}, "with status 404"),
        (429, {}, "wait a few minutes"),
        (503, {}, "with status 503: run the same command again later"),
    ],
)  # fmt: skip
def test_other_refusals(hub, status, headers, expected, monkeypatch):
    hub.listing_refusal = (status, headers)
    assert expected in refusal(VIT)


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"{}", b"[]", b'{"id": "a", "sha": "../x", "siblings": []}']
)
def test_what_answers_is_no_hub(hub, body):
    hub.listing_body = body
    assert "is not a hub, so 'owner/vit' cannot be fetched: check HF_ENDPOINT" in refusal(VIT)


def test_names_that_lead_out_of_the_folder_are_not_fetched(hub):
    odd = {"size": 3, "blobId": "../../../../../escaped"}
    hub.extra_siblings = [
        {"rfilename": "../config.json", **odd},
        {"rfilename": "/etc/model.safetensors", **odd},
        {"rfilename": "..\\model.fp16.safetensors", **odd},
    ]
    state = download_model(VIT)
    assert sorted(state.names) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert not list(hub.cache.parent.glob("**/escaped"))
    # A hash that is none becomes no name.
    body = {"id": "owner/new", "sha": COMMIT, "siblings": []}
    for name, content in contents(hub.models["owner/vit"]).items():
        body["siblings"].append({"rfilename": name, "size": len(content), "blobId": "../escaped"})
    hub.models["owner/new"] = hub.models["owner/vit"]
    hub.listing_body = json.dumps(body).encode()
    assert find_model(transformer("owner/new"))
    assert not list(hub.cache.parent.glob("**/escaped*"))


def test_a_listing_without_hashes(hub):
    """A mirror may not give them; then the library fetches in its own way."""
    served = hub.models["owner/vit"]
    names = [{"rfilename": name} for name in contents(served)]
    body = {"id": "owner/vit", "sha": COMMIT, "siblings": names}
    hub.listing_body = json.dumps(body).encode()
    assert contents(find_model(VIT)) == contents(served)


def test_no_network(hub):
    hub.stop()
    assert f"The connection to the hub ({hub.endpoint}) failed while 'owner/vit'" in refusal(VIT)
    assert model_state(VIT).problem == "'owner/vit' is not in the cache."


def test_a_network_that_ends_in_the_middle(hub):
    def stop():
        hub.server.server_close()
        raise ConnectionResetError

    hub.cut["model.safetensors"] = [1000]
    hub.pace = lambda: None if not partials(hub) else stop()
    assert "The connection to the hub" in refusal(VIT)


def test_offline(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal(VIT)
    assert f"is not complete in {str(hub.cache)!r}" in message
    assert "because HF_HUB_OFFLINE is set: unset it, or give a local copy" in message
    assert not hub.log
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    find_model(VIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    find_model(VIT)


def test_a_full_disk(hub, monkeypatch):
    usage = shutil.disk_usage(hub.cache.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    message = refusal(VIT)
    assert f"The disk with the hub's cache, {str(hub.cache)!r}, has no room for 'owner/vit'" in (
        message
    )
    assert re.search(r"\(\d+\.\d kB needed, 1\.0 kB free\)", message)
    assert "or set HF_HOME to a folder on another disk" in message
    monkeypatch.undo()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_takes_no_more(hub, monkeypatch, number):
    def fail(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        message = refusal(VIT)
    assert str(hub.cache) in message
    assert "set HF_HOME to" in message
    if number in (errno.ENOSPC, errno.EDQUOT):
        assert "has no room for 'owner/vit': free some space and run the same command" in message
    else:
        assert f"cannot be written to ({os.strerror(number)}" in message
    assert contents(find_model(VIT)) == contents(hub.models["owner/vit"])


def test_without_the_library(hub, monkeypatch, tmp_path):
    folder = find_model(VIT)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = refusal(VIT, ComponentError)
    assert "pip install 'diffsegkit[sd]'" in message
    assert "'diffsegkit[vit]'" in message
    assert "--source.model FOLDER" in message
    assert find_model(transformer(folder)) == folder


def test_a_local_folder_is_checked_alone(hub):
    served = hub.models["owner/vit"]
    state = download_model(transformer(served))
    assert state.complete
    assert state.folder == served
    assert state.size == sum(map(len, contents(served).values()))
    (served / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        download_model(transformer(served))
    assert not hub.log


def test_a_revision_that_is_whole_again_and_again(hub):
    """An older complete revision stays usable while a newer one is fetched by name."""
    find_model(VIT)
    hub.revisions["main"] = OTHER_COMMIT
    write_weights(hub.models["owner/vit"] / "model.safetensors", "embeddings.cls_token", size=9)
    assert find_model(VIT).name == COMMIT
    assert find_model(transformer("owner/vit", revision=OTHER_COMMIT)).name == OTHER_COMMIT
