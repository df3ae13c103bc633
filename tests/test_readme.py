"""What the README shows runs as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import Segmenter
from diffsegkit.cli.main import main
from tests.data.layouts import bsds500, coco_stuff27
from tests.plugins import forget

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHELL = re.findall(r"^    (diffsegkit .*)$", TEXT, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch, photo):
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
    merger = next(block for block in PYTHON if block.startswith("# my_merger.py"))
    (tmp_path / "my_merger.py").write_text(merger)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget("my_merger")


def test_there_is_something_to_run():
    assert len(PYTHON) == 8
    assert len(SHELL) == 13


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python(folder, block):
    names = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    if "two_halves" in names:
        segmenter = Segmenter.from_preset(names["two_halves"])
        assert segmenter.merger.quantile == 0.7
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


@pytest.mark.parametrize("command", SHELL)
def test_shell(folder, command, capsys):
    program, *args = shlex.split(command)
    assert program == "diffsegkit"
    small = {"sweep": ["--data.limit", "2", "--data.crop", "64", "--image-size", "64"]}
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
