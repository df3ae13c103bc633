"""Every configuration that is shipped runs from end to end, on tiny data and a tiny model."""

from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

from diffsegkit import registry
from tests.data import layouts
from tests.evaluation.tiny import QUIET, results, run
from tests.sources.pipelines import make_pipeline
from tests.sources.tiny_transformers import build, save

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONFIGS = sorted(EXPERIMENTS.glob("*/*.yaml"))
PAPERS = ("cityscapes27", "coco_stuff27")
SIDES = "[64, 32, 16, 8]"


@pytest.fixture(scope="session")
def tiny_dinov2(tmp_path_factory):
    """As many layers as DINOv2 small, and nothing else of it."""
    return save(build("dinov2", num_hidden_layers=12), tmp_path_factory.mktemp("dinov2"))


def overrides(config, content, root, tiny_dinov2):
    """Tiny data in place of the data set, tiny weights or a tiny source for the real models."""
    name = "coco_stuff27" if config.parent.name == "sweeps" else config.parent.name
    made = getattr(layouts, name)(root)
    if name == "folder":
        where = ["--data.images", made / "images", "--data.labels", made / "labels"]
    else:
        where = ["--data.root", made, "--data.limit", 2]
    preset, sides = content.get("preset", ""), None
    if preset == "diffseg-dinov2s":
        where += ["--source.model", tiny_dinov2]
    elif "sd14" in preset and name == config.parent.name:
        where += ["--source.model", make_pipeline(root / "model", "sd1")]
    elif "sd14" in preset:
        where += ["--source", "tests.evaluation.tiny.TinySource"]
        sides = "--source.sides"
    else:
        sides = "--source.cells"
    if "segmenter" not in content:
        where += ["--image-size", 64]
        if sides:
            where += [sides, SIDES if "aggregation" in config.stem else "[16, 8]"]
    if "data" in content and content["data"]["init_args"].get("crop"):
        where += ["--data.crop", 64]
    if "anchors" in config.stem or "mergers" in config.stem:
        where += ["--merger.points_per_side", 8]
    return where


def test_all_are_here():
    folders = {path.name for path in EXPERIMENTS.iterdir() if path.is_dir()} - {
        "benchmarks",
        "sweeps",
    }
    assert len(folders) == 10
    methods = {path.stem for path in (EXPERIMENTS / "bsds500").glob("*.yaml")}
    assert len(methods) == 9
    for folder in folders:
        # The paper has its K-means baselines on these two.
        papers = {"kmeans_c_sd14", "kmeans_s_sd14"} if folder in PAPERS else set()
        found = {path.stem for path in (EXPERIMENTS / folder).glob("*.yaml")}
        assert found == methods | papers, folder


@pytest.mark.parametrize(
    "config", CONFIGS, ids=[f"{path.parent.name}/{path.stem}" for path in CONFIGS]
)
def test_runs_from_end_to_end(config, own_process, tiny_dinov2, monkeypatch):
    if "plugins" in config.stem:
        monkeypatch.setattr(registry, "distributions", distributions)
    content = yaml.safe_load(config.read_text())
    command = "sweep" if config.parent.name == "sweeps" else "test"
    status = run(
        command, config, *overrides(config, content, own_process / "data", tiny_dinov2), *QUIET
    )
    assert status == 0
    found = results(own_process / "outputs" / config.parent.name / config.stem)
    expected = list(content.get("sweep", [config.stem]))
    assert [result["method"] for result in found["results"]] == expected
    assert found["images"] in (2, 3)
    for result in found["results"]:
        scores = result["scores"]
        assert scores["segments"] >= 1
        assert 0 < scores["covering" if config.parent.name == "bsds500" else "ACC"] <= 1
    assert found["protocol"]["name"] == content["model"]["protocol"]
    assert found["data"]["crop"] == (64 if content["data"]["init_args"].get("crop") else None)
    if config.parent.name != "bsds500":
        assert found["protocol"]["variant"] == "original"
    published = {"coco_object", "pascal_voc", "pascal_context"}
    if config.parent.name in published:
        assert found["protocol"]["background"] == "many-to-one"
    told = {"affinity_kmeans_s": "K of each image", "affinity_kmeans_c_mean": "mean K of the data"}
    told["kmeans_s_sd14"] = told["affinity_kmeans_s"]
    assert found["told"] == told.get(config.stem, "")


def test_an_open_source_is_asked_for(own_process, capsys):
    layouts.coco_stuff27(own_process / "data")
    config = EXPERIMENTS / "coco_stuff27" / "diffseg_sd14.yaml"
    options = ("--preset", "diffseg", "--data.root", own_process / "data")
    assert run("test", config, *options) == 2
    assert (
        "Expected a source, which this preset leaves open: give --source NAME"
        in capsys.readouterr().err
    )


def test_the_paper_asks_for_its_weights(own_process, capsys):
    layouts.coco_stuff27(own_process / "data")
    config = EXPERIMENTS / "coco_stuff27" / "diffseg_sd14.yaml"
    options = ("--source.model", "./nowhere", "--data.root", own_process / "data")
    assert run("test", config, *options) == 2
    assert "there is no folder './nowhere'" in capsys.readouterr().err.lower()
