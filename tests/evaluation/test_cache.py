"""Cached attention from the command line: ``--cache``, and CachedSource like any source."""

import json

import pytest
import yaml
from PIL import Image

from diffsegkit import Segmenter
from tests.evaluation.tiny import QUIET, TINY, TinySource, results, run
from tests.synthetic import read_picture

pytestmark = pytest.mark.usefixtures("own_process")

CACHED = "diffsegkit.sources.CachedSource"
TINY_PATH = "tests.evaluation.tiny.TinySource"


def calls(*args):
    """How often the source was asked during a command that must succeed."""
    before = TinySource.calls
    assert run(*args) == 0
    return TinySource.calls - before


def stored(folder):
    return sorted(path.name for path in folder.rglob("*.safetensors"))


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(photo[:, 20 * index :]).save(folder / f"photo{index}.png")
    return folder


def test_segment(photos, tmp_path):
    command = ["segment", photos, *TINY, "--source.sides", "[8, 4]"]
    assert calls(*command, "--out", "plain") == 2
    assert calls(*command, "--out", "computed", "--cache", "kept") == 2
    assert calls(*command, "--out", "read", "--cache", "kept") == 0
    assert len(stored(tmp_path / "kept")) == 2
    for index in range(2):
        plain, computed, read = (
            read_picture(tmp_path / name / f"photo{index}_labels.png")
            for name in ("plain", "computed", "read")
        )
        assert (computed == read).all()
        assert (plain == read).mean() >= 0.999
    record = json.loads((tmp_path / "read" / "photo0.json").read_text())
    assert record["configuration"]["source"] == {
        "class_path": CACHED,
        "init_args": {
            "source": {"class_path": TINY_PATH, "init_args": {"sides": [8, 4]}},
            "dir": "kept",
            "max_gib": 50.0,
        },
    }


def test_the_option_and_the_source_by_name_are_one(photos, tmp_path):
    by_name = [
        "--source", CACHED, "--source.dir", "kept",
        "--source.source", TINY_PATH, "--source.source.sides", "[8, 4]",
    ]  # fmt: skip
    common = ["segment", photos, "--out", "out", "--image-size", "64"]
    assert calls(*common, *by_name) == 2
    option = ["--source", TINY_PATH, "--source.sides", "[8, 4]", "--cache", "kept"]
    assert calls(*common, *option) == 0
    before = (tmp_path / "out" / "photo0.json").stat().st_mtime_ns
    # The very same configuration, so there is nothing left to do.
    assert calls(*common, *by_name, "--skip-existing") == 0
    assert (tmp_path / "out" / "photo0.json").stat().st_mtime_ns == before


def test_skip_existing(photos, tmp_path, capsys):
    command = ["segment", photos, *TINY, "--out", "out"]
    assert calls(*command, "--cache", "kept") == 2
    assert calls(*command, "--cache", "kept", "--skip-existing") == 0
    assert "2 of 2 photos are done already" in capsys.readouterr().out
    # Label maps of uncached attention may differ a little: they are others.
    assert calls(*command, "--skip-existing") == 2


def test_print_config_is_a_configuration(photos, tmp_path, capsys):
    command = ["segment", photos, *TINY, "--out", "out", "--cache", "kept"]
    assert run(*command, "--print_config") == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["cache"] == "kept"
    assert yaml.safe_load(text)["source"]["class_path"] == TINY_PATH
    (tmp_path / "config.yaml").write_text(text)
    assert calls(*command) == 2
    assert calls("segment", "--config", "config.yaml", "--out", "again") == 0
    first, again = (
        json.loads((tmp_path / name / "photo0.json").read_text())["configuration"]
        for name in ("out", "again")
    )
    assert first == again


def test_a_nested_source_in_yaml(photos, tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"source:\n  class_path: {CACHED}\n  init_args:\n    dir: kept\n    max_gib: 2\n"
        f"    source: {TINY_PATH}\nimage_size: 64\n"
    )
    command = ["segment", photos, "--config", "config.yaml", "--out"]
    assert calls(*command, "out") == 2
    assert calls(*command, "again", "--source.max_gib", "3") == 0
    record = json.loads((tmp_path / "again" / "photo0.json").read_text())
    assert record["configuration"]["source"]["init_args"]["max_gib"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cache", ""], "`dir` to be a folder, but got no name"),
        (["--cache", "photos/photo0.png"], "`dir` to be a folder, but 'photos/photo0.png' is a"),
        (["--cache", "photos/photo0.png/x"], "is not: Not a directory"),
        (["--cache", "kept", "--segmenter", "OneSegment"], "--cache has no meaning beside it"),
        (["--source", CACHED, "--source.source", TINY_PATH], "CachedSource needs --source.dir"),
        (["--source", CACHED, "--source.dir", "x"], "CachedSource needs --source.source"),
    ],
)
def test_wrong_options(options, message, photos, capsys):
    assert run("segment", photos, "--out", "out", *options) == 2
    assert message in capsys.readouterr().err


def test_a_source_without_fingerprint(photos, tmp_path, capsys):
    (tmp_path / "nameless.py").write_text(
        "from tests.evaluation.tiny import TinySource\n"
        "class Nameless(TinySource):\n    def fingerprint(self): return ''\n"
    )
    arguments = ["--source", "nameless.Nameless", "--cache", "kept"]
    assert run("segment", photos, "--out", "out", *arguments) == 2
    assert "Nameless has no fingerprint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_test_predict_and_sweep(data, tmp_path):
    """Three commands and one folder: each image's attention is computed once."""
    common = [*data, *TINY, "--cache", "kept"]
    assert calls("test", *common, *QUIET, "--name", "one", "--model.pictures", "0") == 7
    assert calls("test", *common, *QUIET, "--name", "two", "--model.pictures", "0") == 0
    one, two = (results(tmp_path / "outputs" / name)["results"][0] for name in ("one", "two"))
    assert one["scores"] == two["scores"]
    assert calls("predict", *common, *QUIET, "--name", "labels") == 0
    (tmp_path / "sweep.yaml").write_text(
        "sweep:\n"
        "  plain: {}\n"
        "  coarse: {merger: {thresholds: [2.0]}}\n"
        "  another source: {source: {sides: [8]}}\n"
    )
    sweep = ["sweep", "sweep.yaml", *common, *QUIET, "--model.pictures", "0", "--name"]
    assert calls(*sweep, "first") == 7
    assert calls(*sweep, "second") == 0
    assert len(stored(tmp_path / "kept")) == 14
    described = json.loads((tmp_path / "outputs" / "second" / "run.json").read_text())
    sources = {
        name: method["source"]["init_args"]
        for name, method in described["evaluates"]["methods"].items()
    }
    assert {own["dir"] for own in sources.values()} == {"kept"}
    assert sources["plain"] == sources["coarse"]
    assert sources["another source"]["source"]["init_args"] == {"sides": [8]}


def test_an_interrupted_run_goes_on(data, tmp_path):
    """With --resume, and with the same cache: not with another source, which uncached is."""
    common = ["test", *data, *TINY, *QUIET, "--model.pictures", "0", "--name", "one"]
    assert calls(*common, "--cache", "kept") == 7
    assert calls(*common, "--cache", "kept", "--resume") == 0
    assert run(*common, "--resume") == 2


def test_from_python_the_source_is_given_as_any_other(photo, tmp_path):
    """What --cache does in words that from_preset knows."""
    source = {"class_path": CACHED, "init_args": {"source": TINY_PATH, "dir": str(tmp_path / "k")}}
    segmenter = Segmenter.from_preset("affinity", source=source, image_size=64)
    before = TinySource.calls
    segmenter([photo, photo[:, 10:], photo])
    assert TinySource.calls == before + 2
    segmenter([photo, photo[:, 10:]])
    assert TinySource.calls == before + 2
