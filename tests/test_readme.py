"""What the README shows runs as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from diffsegkit import Segmenter
from diffsegkit.cli.main import main
from tests.data.layouts import bsds500, coco_stuff27
from tests.plugins import forget
from tests.sources.pipelines import make_pipeline
from tests.weights.caches import cache_model

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHELL = re.findall(r"^    (diffsegkit .*)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Tiny models of the kinds that the README names."""
    root = tmp_path_factory.mktemp("models")
    make_pipeline(root / "stable-diffusion-v1-4", "sd1")
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=12, num_attention_heads=2, patch_size=14, image_size=56
    )
    Dinov2Model(config).save_pretrained(root / "dinov2-small")
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch, photo, pipelines):
    """A working directory with the files that the README takes for granted."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for name in ("photo.jpg", "photos/one.jpg", "photos/three.jpg", "more/deep/two.png"):
        Image.fromarray(photo).save(tmp_path / name)
    (tmp_path / "masks").mkdir()
    for name in ("one.png", "three.png"):
        classes = (photo[..., 0] > 100).astype(np.uint8)
        Image.fromarray(classes).save(tmp_path / "masks" / name)
    # The data sets of the examples, at the places they name.
    (tmp_path / "experiments").symlink_to(Path(__file__).parent.parent / "experiments")
    bsds500(tmp_path / "data" / "BSDS500")
    coco_stuff27(tmp_path / "data" / "coco")
    # The models, in the hub's cache, and a copy at the place that is named.
    models = pipelines / "stable-diffusion-v1-4"
    (tmp_path / "stable-diffusion-v1-4").symlink_to(models)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cache_model(tmp_path / "hub", "CompVis/stable-diffusion-v1-4", models)
    cache_model(tmp_path / "hub", "facebook/dinov2-small", pipelines / "dinov2-small")
    merger = next(block for block in PYTHON if block.startswith("# my_merger.py"))
    (tmp_path / "my_merger.py").write_text(merger)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget("my_merger")


def test_there_is_something_to_run():
    assert len(PYTHON) == 9
    assert len(SHELL) == 21


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python(folder, block):
    names = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    if "two_halves" in names:
        segmenter = Segmenter.from_preset(names["two_halves"])
        assert segmenter.merger.quantile == 0.7
    if "on_the_upper_half_of_the_unet" in names:
        segmenter = names["on_the_upper_half_of_the_unet"]("stable-diffusion-v1-4")
        segmenter.image_size = 64
        [output] = segmenter.extract("photo.jpg").attention[-1:]
        assert output.grid == (8, 8)
        assert segmenter.source.timestep == 100
    if "diffseg" in names:

        def extract(images):
            sides = (16, 8)
            shapes = [(len(images), side**2, side**2) for side in sides]
            return {
                side: torch.rand(shape).softmax(-1)
                for side, shape in zip(sides, shapes, strict=True)
            }

        [result] = names["diffseg"](extract)(np.zeros((40, 60, 3), np.uint8))
        assert result.crop_box == (10, 0, 50, 40)


# A benchmark says so where the machine is busy.
@pytest.mark.filterwarnings("ignore:.*programs have been running")
@pytest.mark.parametrize("command", SHELL)
def test_shell(folder, command, capsys):
    program, *args = shlex.split(command)
    assert program == "diffsegkit"
    small = {"sweep": ["--data.limit", "2", "--data.crop", "64", "--image-size", "64"]}
    if "--preset" in args:
        small["segment"] = ["--image-size", "128"]
    assert main([*args, *small.get(args[0], [])]) == 0, capsys.readouterr().err
    made = {
        "segment": "segments/*_overlay.png",
        "test": "outputs/*/*/results.json",
        "sweep": "outputs/*/*/results.json",
        "predict": "outputs/*/*/labels/one.png",
    }
    if args[0] in made:
        assert list(folder.glob(made[args[0]]))


def test_targets_exist():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile
