"""``diffsegkit download`` and what ``doctor`` says of weights."""

import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from diffsegkit.cli import doctor
from diffsegkit.cli import list as list_command
from diffsegkit.cli.main import main
from tests.plugins import install
from tests.weights.models import write_pipeline, write_weights

ROOT = Path(__file__).parents[2]
PRESETS = "tests.weights.presets"


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """Undo what the entry point sets for its process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("diffsegkit"), "handlers", [])
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def download(capsys):
    """Run the command: its status, and what it printed."""

    def run(*args):
        names = [f"{PRESETS}.{arg}" if str(arg).isupper() else str(arg) for arg in args]
        status = main(["download", *names])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out.replace(f"{PRESETS}.", ""), captured.err

    return run


def command(*args, **options):
    """The same in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "diffsegkit", "download", *args], cwd=ROOT, text=True, **options
    )


def test_a_preset(hub, download):
    status, out, _ = download("VIT")
    assert status == 0
    assert re.fullmatch(r"VIT: fetched: 3 files, 80\.\d kB, in .*/snapshots/\w{40}\n", out)
    hub.log.clear()
    status, again, _ = download("VIT")
    assert status == 0
    assert again == out.replace("fetched", "complete already")
    assert not hub.log


def test_several_presets(hub, download):
    status, out, err = download("affinity", "VIT", "SD", "VIT")
    assert status == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["affinity", "VIT", "SD"]
    assert out.startswith("affinity: needs no weights\n")
    hub.stop()
    status, out, err = download("ABSENT", "VIT", "ABSENT", "FORGETFUL")
    assert status == 2  # a preset that is wrong is a mistake before anything is fetched
    assert out == ""
    assert "cannot say which files it needs" in err


def test_one_that_fails_among_several(hub, download):
    status, out, err = download("ABSENT", "SD")
    assert status == 1
    assert out.startswith("SD: fetched: 10 files")
    assert "error: There is no model 'owner/absent' on the hub" in err
    shutil.rmtree(hub.models["owner/pipeline"] / "vae")
    shutil.rmtree(hub.cache)
    status, out, err = download("ABSENT", "VIT", "SD")
    assert status == 2
    assert out.startswith("VIT: fetched")
    assert "failed: There is no model 'owner/absent'" in err
    assert "error: The model 'owner/pipeline' on the hub lacks vae/config.json" in err


def test_options_of_the_source(hub, download):
    hub.revisions["v2"] = "f" * 40
    status, out, _ = download("VIT", "--source.revision", "v2", "--source.layers=4")
    assert status == 0
    assert out.endswith(f"/{'f' * 40}\n")
    served = hub.models["owner/pipeline"]
    name = "unet/diffusion_pytorch_model"
    shutil.copy(served / f"{name}.safetensors", served / f"{name}.fp16.safetensors")
    hub.log.clear()
    assert download("SD", "--source.variant=fp16")[0] == 0
    assert f"{name}.fp16.safetensors" in hub.fetched()
    assert f"{name}.safetensors" not in hub.fetched()
    hub.models["owner/tuned"] = hub.models["owner/vit"]
    assert download("VIT", "--source.model", "owner/tuned")[0] == 0
    # Another source altogether, and one for a preset that leaves it open.
    assert "fetched" in download("diffseg", "--source", f"{PRESETS}.Transformer")[1]
    assert download("VIT", "--source", "AffinitySource")[1] == "VIT: needs no weights\n"


def test_a_local_copy(hub, download, tmp_path):
    folder = write_pipeline(tmp_path / "copy")
    status, out, _ = download("SD", "--source.model", folder)
    assert status == 0
    assert out.startswith("SD: complete already: 10 files, ")
    assert out.endswith(f", in {folder}\n")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = download("SD", "--source.model", folder)
    assert status == 2
    assert out == ""
    assert f"{str(path)!r} is truncated" in err
    file = tmp_path / "single.safetensors"
    write_weights(file, "a")
    status, out, _ = download("SD", "--source.model", file)
    assert status == 0
    assert "SD: complete already: 1 file, " in out
    assert out.endswith(f", in {file}\n")
    file.write_bytes(b"<html>")
    assert "is a web page" in download("SD", "--source.model", file)[2]
    status, _, err = download("SD", "--source.model", tmp_path / "nowhere")
    assert status == 2
    assert "there is no folder" in err
    assert not hub.log


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "Expected at least one preset: diffsegkit download PRESET..."),
        (["diffseg"], "The preset 'diffseg' leaves the source open: give --source NAME"),
        (["afinity"], "There is no preset called 'afinity'. Did you mean 'affinity'?"),
        (["VIT", "SD", "--source.model", "x/y"], "--source.model is for one preset, but got"),
        (["VIT", "--source.modl", "x/y"], "has no argument 'modl'; did you mean 'model'?"),
        (["VIT", "--sorce.model", "x/y"], "no option --sorce.model; did you mean '--source.model'"),
        (["CARELESS"], "Careless.weights() to return ModelFiles or None, but got ['model"),
        (["FORGETFUL"], "Forgetful cannot say which files it needs"),
    ],
)
def test_wrong_usage(hub, download, args, expected):
    status, out, err = download(*args)
    assert status == 2
    assert expected in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not hub.log


def test_no_network_and_offline(hub, download, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    process = command(f"{PRESETS}.VIT", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "because HF_HUB_OFFLINE is set: unset it, or give a local copy with --source" in err
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub.stop()
    process = command(f"{PRESETS}.VIT", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert f"The connection to the hub ({hub.endpoint}) failed" in err
    assert err.endswith("or give a local copy with --source.model FOLDER.\n")


def test_interrupted_and_continued(hub, download):
    write_weights(hub.models["owner/vit"] / "model.safetensors", "a", size=100_000)
    half = threading.Event()
    blobs = hub.cache / "models--owner--vit" / "blobs"

    def pace():
        time.sleep(0.02)
        if any(path.stat().st_size > 50_000 for path in blobs.glob("*.incomplete")):
            half.set()

    hub.pace = pace
    process = command(f"{PRESETS}.VIT", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert half.wait(120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "diffsegkit: owner/vit: 3 files, 400.1 kB" in err
    assert err.endswith("diffsegkit: interrupted; the same command goes on where it stopped\n")
    assert "Traceback" not in err
    hub.pace = None
    hub.log.clear()
    status, out, _ = download("VIT")
    assert status == 0
    assert out.startswith("VIT: fetched: 3 files, 400.1 kB")
    assert hub.fetched() == ["model.safetensors"]


def test_a_bar_on_a_terminal(hub):
    write_weights(hub.models["owner/vit"] / "model.safetensors", "a", size=400_000)
    hub.pace = lambda: time.sleep(0.002)
    ours, theirs = pty.openpty()
    process = command(f"{PRESETS}.VIT", stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    assert b"diffsegkit: owner/vit: 3 files, 1.6 MB" in seen
    assert re.search(rb"owner/vit .*1\.6/1\.6 MB", seen)


def test_doctor_and_list(hub, download, tmp_path, monkeypatch, capsys):
    site = tmp_path / "site"
    site.mkdir()
    names = {
        "whole": "VIT",
        "begun": "SD",
        "absent": "ABSENT",
        "needy": "NEEDY",
        "odd": "CARELESS",
        "local": "LOCAL",
    }
    entries = [("presets", f"{name} = {PRESETS}:{attribute}") for name, attribute in names.items()]
    # One section for all.
    entries = [("presets", "\n".join(line for _, line in entries))]
    install(site, "weighty", "", entries)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(ROOT)
    download("VIT")
    hub.cut["unet/diffusion_pytorch_model.safetensors"] = [9000, *[0] * 5]
    assert download("SD")[0] == 1
    hub.log.clear()
    assert doctor.run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    [whole] = [line for line in lines if line.startswith("  whole:")]
    assert re.fullmatch(
        r"  whole: ready; its weights are complete \(80\.\d kB\)\. Transformer\.", whole
    )
    [begun] = [line for line in lines if line.startswith("  begun:")]
    assert re.match(r"  begun: its weights are incomplete, with 9\.\d kB here: `diffsegkit", begun)
    assert "`diffsegkit download begun` goes on. 'owner/pipeline' in the cache lacks vae/" in begun
    assert (
        "  absent: its weights are not here yet: `diffsegkit download absent`. Transformer."
    ) in lines
    [needy] = [line for line in lines if line.startswith("  needy:")]
    assert "cannot run. This preset needs not_there: pip install 'x[y]'. ready; its" in needy
    [odd] = [line for line in lines if line.startswith("  odd:")]
    assert "odd: cannot run. Expected tests.weights.presets.Careless.weights() to return" in odd
    [local] = [line for line in lines if line.startswith("  local:")]
    assert "local: its weights cannot be loaded. The model in 'tests' lacks config.json" in local
    assert f"  {hub.cache} (HF_HOME moves it)" in lines
    assert "  affinity: ready." in "\n".join(lines)
    assert any(line.startswith("  huggingface_hub ") for line in lines)
    assert not hub.log
    assert list_command.run(["presets", "whole", "--check"]) == 0
    assert list_command.run(["presets", "absent", "--check"]) == 0
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert doctor.run([]) == 0
    out = capsys.readouterr().out
    assert "none; huggingface_hub is not installed" in out
    assert "whole: cannot run. Models of the hub need huggingface_hub: pip install" in out
