"""A small source in place of Stable Diffusion, and small runs of the command line."""

import json
import logging
import sys
import warnings

import pytest
from torch.nn import functional

from diffsegkit import AttentionMap, AttentionSource, SourceOutput
from diffsegkit.cli.main import main


class TinySource(AttentionSource):
    """Cells of one colour attend to each other, on the grids of Stable Diffusion, made smaller.

    It gives the grids by which configurations weigh them: a longer side of 64, 32, 16 and 8.
    """

    size_multiple = 8
    calls = 0

    def __init__(self, sides: list[int] = [16, 8]) -> None:  # noqa: B006
        super().__init__()
        self.sides = sides

    def forward(self, images, *, prompts=None):
        TinySource.calls += 1
        maps = []
        for side in self.sides:
            height, width = images.shape[2:]
            grid = (
                max(1, round(side * height / max(height, width))),
                max(1, round(side * width / max(height, width))),
            )
            colours = functional.adaptive_avg_pool2d(images, grid).flatten(2).mT
            near = (-30 * (colours[:, :, None] - colours[:, None]).abs().sum(-1)).softmax(-1)
            maps.append(AttentionMap(near, grid))
        return SourceOutput(maps, images=images)

    def fingerprint(self):
        return f"TinySource({self.sides})"


TINY = ["--source", "tests.evaluation.tiny.TinySource", "--image-size", "64"]
QUIET = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]


def run(*args):
    return main([str(arg) for arg in args])


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def own_process(monkeypatch, tmp_path):
    """Undo what the entry point sets for its process, and start in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("diffsegkit"), "handlers", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with warnings.catch_warnings():
        yield tmp_path
