"""``diffsegkit segment`` as a user runs it."""

import json
import logging
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import Segmentation, Segmenter
from diffsegkit.cli.main import main
from tests.plugins import forget
from tests.synthetic import read_picture

SMALL = ["--image-size", "64", "--source.cells", "[16, 8]"]


@pytest.fixture(autouse=True)
def own_process(monkeypatch, tmp_path):
    """Undo what the entry point sets for its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("diffsegkit"), "handlers", [])
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.roll(photo, 20 * index, axis=1)).save(folder / f"photo{index}.png")
    return folder


def run(*args):
    return main(["segment", *map(str, args)])


def names(folder):
    """All but the manifest, which is looked at by itself."""
    return sorted(path.name for path in folder.iterdir() if path.name != "manifest.jsonl")


def test_one_photo(photos, tmp_path, capsys):
    assert run(photos / "photo0.png", "--out", tmp_path / "out", *SMALL) == 0
    assert names(tmp_path / "out") == ["photo0.json", "photo0_labels.png", "photo0_overlay.png"]
    out = capsys.readouterr().out
    assert re.search(r"photo0\.png: \d+ segments", out)
    assert "1 of 1 photos segmented; results are in" in out
    record = json.loads((tmp_path / "out" / "photo0.json").read_text())
    assert record["preset"] == "affinity"
    assert record["configuration"]["source"]["init_args"]["cells"] == [16, 8]
    assert record["configuration"]["merger"]["class_path"] == "diffsegkit.mergers.IterativeKLMerger"
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"] in ("cpu", "cuda")
    assert set(record["times_ms"]) == {
        "read", "prepare", "extract", "aggregate", "merge", "assign",
    }  # fmt: skip
    labels = read_picture(tmp_path / "out" / "photo0_labels.png")
    assert labels.shape == (90, 120)
    assert labels.max() + 1 == record["num_segments"] == len(record["segments"])
    assert sum(segment["area"] for segment in record["segments"]) == 90 * 120


def test_it_gives_what_python_gives(photos, tmp_path):
    run(photos / "photo1.png", "--out", tmp_path / "out", *SMALL, "--merger.thresholds", "[0.4]")
    segmenter = Segmenter.from_preset(
        "affinity", image_size=64, source={"cells": [16, 8]}, merger={"thresholds": [0.4]}
    )
    [expected] = segmenter(photos / "photo1.png")
    found = read_picture(tmp_path / "out" / "photo1_labels.png")
    assert np.array_equal(found, expected.labels.numpy())


def test_files_folders_and_globs_each_once(photos, tmp_path, capsys):
    (photos / "notes.txt").write_text("no photo")
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "deeper").mkdir()
    Image.new("RGB", (9, 9)).save(photos / "deeper" / "deep.png")
    out = tmp_path / "out"
    assert run(photos, photos / "photo0.png", photos / "ph*1.png", "--out", out, *SMALL) == 0
    assert "3 of 3" in capsys.readouterr().out
    assert run(f"{photos}/**/deep.*", "--out", out, *SMALL) == 0
    assert "deep.json" in names(out)


def test_a_batch_gives_what_one_by_one_gives(photos, tmp_path):
    for size in (1, 3):
        run(photos, "--out", tmp_path / str(size), "--batch-size", size, *SMALL)
    for index in range(3):
        first, second = (
            (tmp_path / size / f"photo{index}_labels.png").read_bytes() for size in "13"
        )
        assert first == second


def test_one_bad_file_among_many(photos, tmp_path, capsys):
    (photos / "photo1.png").write_bytes((photos / "photo1.png").read_bytes()[:500])
    for size in (1, 3):
        out = tmp_path / f"out{size}"
        status = run(photos, "nowhere.jpg", "--out", out, "--batch-size", size, *SMALL)
        captured = capsys.readouterr()
        assert status == 1
        assert "2 of 3 photos segmented" in captured.out
        assert re.search(r"failed: .*photo1\.png' is damaged", captured.err)
        assert "failed: There is no file or folder 'nowhere.jpg'" in captured.err
        assert "Traceback" not in captured.err
        assert not [name for name in names(out) if "photo1" in name]
        assert len(names(out)) == 6


def test_a_photo_that_cannot_be_merged_costs_the_others_nothing(photos, tmp_path, capsys):
    """With float16 anchors and sharp attention every anchor of a photo may vanish."""
    Image.new("RGB", (120, 90), (90, 90, 90)).save(photos / "blank.png")
    status = run(
        photos, "--out", tmp_path / "out", "--batch-size", 4, *SMALL,
        "--source.temperature", 0.02, "--merger.anchor_precision", "float16",
    )  # fmt: skip
    captured = capsys.readouterr()
    assert status == 1
    assert re.search(r"failed: '.*photo0\.png': None of the \d+ anchors", captured.err)
    assert "blank.json" in names(tmp_path / "out")


@pytest.mark.parametrize(
    "args",
    [["nowhere.jpg"], ["photos/*.tiff"], ["empty"], ["nowhere.jpg", "empty"], []],
    ids=str,
)
def test_nothing_to_segment_is_wrong_usage(photos, tmp_path, capsys, args):
    (tmp_path / "empty").mkdir()
    assert run(*args, "--out", "out", *SMALL) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffsegkit: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_photos_of_one_name(photos, tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(photos / "photo0.jpg")
    assert run(photos, "--out", "out", *SMALL) == 2
    assert "would both write 'photo0_labels.png'" in capsys.readouterr().err


def test_results_beside_the_photos_are_not_photos(photos, capsys):
    for _ in range(2):
        assert run(photos, "--out", photos, *SMALL) == 0
        assert "3 of 3" in capsys.readouterr().out
    assert len(names(photos)) == 12


def test_skip_existing(photos, tmp_path, capsys):
    out = tmp_path / "out"
    run(photos / "photo0.png", "--out", out, *SMALL)
    first = (out / "photo0.json").stat().st_mtime_ns
    assert run(photos, "--out", out, "--skip-existing", *SMALL) == 0
    assert "1 of 3 photos are done already\n" in capsys.readouterr().out
    assert (out / "photo0.json").stat().st_mtime_ns == first
    (out / "photo1.json").unlink()  # as after an interruption
    assert run(photos, "--out", out, "--skip-existing", *SMALL) == 0
    assert "2 of 3 photos are done already" in capsys.readouterr().out
    assert len(names(out)) == 9


def test_what_is_done_is_this_photo_with_these_options(photos, tmp_path, capsys):
    once = [photos / "photo0.png", "--out", "out", "--skip-existing", *SMALL]
    for args in (
        [],
        ["--merger", "KMeansMerger"],
        ["--merger", "KMeansMerger", "--dtype", "float16"],
    ):
        assert run(*once, *args) == 0
        assert "1 of 1 photos segmented" in capsys.readouterr().out
        assert run(*once, *args) == 0
        assert capsys.readouterr().out == "1 of 1 photos are done already\n"
    (photos / "photo0.png").write_bytes((photos / "photo1.png").read_bytes())
    assert run(*once, *args) == 0
    assert "1 of 1 photos segmented" in capsys.readouterr().out


def test_what_is_done_is_in_a_manifest(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(photos, "--out", out, *SMALL) == 0
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["photo0", "photo1", "photo2"]
    record = json.loads((out / "photo1.json").read_text())
    assert lines[1]["sha256"] == record["photo"]["sha256"]
    assert lines[1]["num_segments"] == record["num_segments"]
    assert lines[1]["files"] == {
        name: (out / name).stat().st_size
        for name in ("photo1_labels.png", "photo1_overlay.png", "photo1.json")
    }
    (out / "manifest.jsonl").write_text("my own notes\n")
    assert run(photos, "--out", out, *SMALL) == 1
    assert "is not a record" in capsys.readouterr().err
    assert (out / "manifest.jsonl").read_text() == "my own notes\n"


def test_a_whole_method(photos, tmp_path, capsys):
    method = ["--segmenter", "SLIC", "--segmenter.num_segments", "4"]
    assert run(photos / "photo0.png", "--out", "out", *method) == 0
    record = json.loads((tmp_path / "out" / "photo0.json").read_text())
    assert record["configuration"] == {
        "segmenter": {
            "class_path": "diffsegkit.segmenters.SLIC",
            "init_args": {"num_segments": 4, "compactness": 10.0, "sigma": 0.0},
        }
    }
    assert record["num_segments"] > 1
    assert run(photos / "photo0.png", "--out", "one", "--segmenter", "OneSegment") == 0
    assert "1 segment\n" in capsys.readouterr().out
    assert run(photos / "photo0.png", "--out", "x", "--segmenter", "SLIK") == 2
    assert "Did you mean 'SLIC'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["photo0.json", "photo0_overlay.png", "photo0_labels.png"])
def test_files_of_others_are_not_overwritten(photos, capsys, name):
    Image.new("RGB", (9, 9)).save(photos / "mine.png")
    (photos / name).write_bytes((photos / "mine.png").read_bytes())
    before = {path: path.read_bytes() for path in photos.iterdir()}
    assert run(photos, "--out", photos, *SMALL) == 2
    assert f"{name}', which is not a result of diffsegkit" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["[a].png", "{b}.png", "&c.png", "!d.png", "%e.png", "@f.png", "*g.png", "- h.png"]
)
def test_names_that_look_like_yaml_or_globs(tmp_path, photo, name):
    Image.fromarray(photo).save(tmp_path / name)
    folder = f"out{name[:2]}"
    argument = f"./{name}" if name.startswith("-") else name
    assert run(argument, "--out", folder, *SMALL) == 0
    assert names(tmp_path / folder)[0] == name.replace("png", "json")


def test_a_glob_that_begins_with_a_star(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    assert run("*.png", "--out", "../out", *SMALL) == 0
    assert "3 of 3" in capsys.readouterr().out
    assert run("**/*", "--out", "../out2", *SMALL) == 0


def test_what_is_typed_beats_the_file(photos, tmp_path):
    assert run(photos / "photo0.png", "--out", "file", *SMALL, "--print_config") == 0
    (tmp_path / "c.yaml").write_text(
        "photos: [photos/photo2.png]\nout: file\nimage_size: 128\nsource: {init_args: {cells: [8]}}\n"
    )
    typed = [photos / "photo1.png", "--out", "typed", "--image-size", "64"]
    for args in ([*typed, "--config", "c.yaml"], ["--config=c.yaml", *typed]):
        assert run(*args) == 0
        record = json.loads((tmp_path / "typed" / "photo1.json").read_text())
        assert record["configuration"]["image_size"] == 64
        assert record["configuration"]["source"]["init_args"]["cells"] == [8]
    assert not (tmp_path / "file").exists()


def test_a_folder_that_cannot_be_written_to(photos, capsys):
    for out in ("photos/photo0.png/sub", "/proc/none/sub"):
        assert run("photos/photo0.png", "--out", out, *SMALL) == 2
        assert f"but '{out}' is not: " in capsys.readouterr().err


def test_a_link_that_leads_nowhere(photos, tmp_path, capsys):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert run("loop.png", "x" * 300, photos, "--out", "out", *SMALL) == 1
    error = capsys.readouterr().err
    assert "The link 'loop.png' leads nowhere." in error
    assert "xxx': [Errno 36] File name too long" in error


def test_a_name_as_long_as_names_can_be(photos, tmp_path, capsys):
    """The label map's name still fits, the overlay's does not: that photo fails, others do not."""
    (photos / "photo0.png").rename(photos / ("y" * 244 + ".png"))
    assert run(photos, "--out", "out", *SMALL) == 1
    captured = capsys.readouterr()
    assert "2 of 3 photos segmented" in captured.out
    assert "File name too long" in captured.err
    assert len(names(tmp_path / "out")) == 6


def test_lines_reach_a_pipe_while_the_bar_is_on_a_terminal(photos, tmp_path):
    command = [sys.executable, "-m", "diffsegkit", "segment", str(photos), "--out", "out", *SMALL]
    leader, follower = os.openpty()
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, text=True, check=True)
    os.close(follower)
    os.close(leader)
    assert len(re.findall(r"photo\d\.png: \d+ segments", result.stdout)) == 3


def test_crop(photos, tmp_path):
    run(photos / "photo0.png", "--out", tmp_path, "--resize", "crop", *SMALL)
    record = json.loads((tmp_path / "photo0.json").read_text())
    assert record["crop_box"] == [15, 0, 105, 90]
    assert read_picture(tmp_path / "photo0_labels.png").shape == (90, 90)
    assert read_picture(tmp_path / "photo0_overlay.png").shape == (90, 90, 3)


def test_parts_by_name_path_and_file(photos, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(
        "preset: affinity\nmerger:\n  class_path: KMeansMerger\n  init_args: {num_segments: 4}\n"
        "image_size: 64\nsource:\n  init_args: {cells: [16, 8]}\n"
    )
    (tmp_path / "my_merger.py").write_text(
        "from diffsegkit.mergers import KMeansMerger\nclass MyMerger(KMeansMerger):\n    pass\n"
    )
    photo = photos / "photo0.png"
    for number, args in {
        2: [*SMALL, "--merger", "KMeansMerger", "--merger.num_segments", "2"],
        3: [*SMALL, "--merger=my_merger.MyMerger", "--merger.num_segments=3"],
        4: ["--config", "options.yaml"],
        5: ["--config", "options.yaml", "--merger.num_segments", "5"],
    }.items():
        assert run(photo, "--out", tmp_path, *args) == 0
        assert json.loads((tmp_path / "photo0.json").read_text())["num_segments"] == number
    forget("my_merger")


def test_a_mapping_without_spaces_after_its_colons(photos, tmp_path):
    args = ["--aggregator.weighting", "{16:2,8:1}"]
    assert run(photos / "photo0.png", "--out", tmp_path, *SMALL, *args) == 0
    record = json.loads((tmp_path / "photo0.json").read_text())
    weighting = record["configuration"]["aggregator"]["init_args"]["weighting"]
    assert weighting == {"16": 2.0, "8": 1.0}


def test_the_printed_configuration_reproduces_the_run(photos, tmp_path, capsys):
    args = [*SMALL, "--merger.thresholds", "[0.3, 0.5]"]
    assert run(photos / "photo0.png", "--out", "a", *args, "--print_config") == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    run(photos / "photo0.png", "--out", "a", *args)
    assert run("--config", "printed.yaml", "--out", "b") == 0
    first, second = (tmp_path / folder / "photo0_labels.png" for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_part_that_forgets_to_initialise_itself(photos, tmp_path, capsys):
    (tmp_path / "forgetful.py").write_text(
        "from diffsegkit import Merger\n"
        "class Forgetful(Merger):\n"
        "    def __init__(self, q: int = 1):\n"
        "        self.q = q\n"
        "    def forward(self, aggregated, *, num_segments=None):\n"
        "        return []\n"
    )
    args = [photos / "photo0.png", "--out", "out", *SMALL, "--merger", "forgetful.Forgetful"]
    assert run(*args) == 2
    assert "(call super().__init__() first)" in capsys.readouterr().err
    forget("forgetful")


def test_one_segment_is_said_with_what_helps(photos, capsys):
    run(photos / "photo0.png", "--out", "out", *SMALL, "--merger.thresholds", "50")
    assert "1 segment; smaller --merger.thresholds would separate more" in capsys.readouterr().out
    args = ["--merger", "KMeansMerger", "--merger.num_segments", "1"]
    run(photos / "photo0.png", "--out", "out", *SMALL, *args)
    assert "photo0.png: 1 segment\n" in capsys.readouterr().out


def test_a_part_that_fails_on_one_photo_costs_the_others_nothing(photos, tmp_path, capsys, caplog):
    (tmp_path / "fussy.py").write_text(
        "from diffsegkit.mergers import KMeansMerger\n"
        "class Fussy(KMeansMerger):\n"
        "    def forward(self, aggregated, *, num_segments=None):\n"
        "        if aggregated.source.images.amax((1, 2, 3)).min() < 0.2:\n"
        "            raise IndexError('too dark')\n"
        "        return super().forward(aggregated)\n"
    )
    Image.new("RGB", (120, 90)).save(photos / "dark.png")
    args = [photos, "--out", "out", "--batch-size", 4, *SMALL, "--merger", "fussy.Fussy"]
    assert run(*args, "--debug") == 1
    captured = capsys.readouterr()
    assert "3 of 4 photos segmented" in captured.out
    assert re.search(r"failed: '.*dark\.png': IndexError: too dark", captured.err)
    assert "Traceback" in caplog.text
    assert len(names(tmp_path / "out")) == 9
    caplog.clear()
    assert run(*args) == 1
    assert "Traceback" not in caplog.text
    forget("fussy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtypes(photos, tmp_path, dtype):
    assert run(photos / "photo0.png", "--out", tmp_path, "--dtype", dtype, *SMALL) == 0
    assert json.loads((tmp_path / "photo0.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--merger", "IterativKLMerger"], "Did you mean 'IterativeKLMerger'"),
        (["--merger.thresholdz", "1"], "no argument 'thresholdz'; did you mean 'thresholds'"),
        (["--merger.thresholds", "abc"], "--merger.thresholds: expected float | Sequence[float]"),
        (["--merger.thresholds", "-1"], "positive distances in nats, but got -1"),
        (["--merger.points_per_side", "1.5"], "expected int for IterativeKLMerger, but got '1.5'"),
        (["--merger.anchors", "Foo"], "There is no anchor called 'Foo'"),
        (["--merger", "nowhere.Foo"], "cannot be imported from 'nowhere.Foo'"),
        (["--merger", "diffsegkit.assigners.ArgmaxAssigner"], "expected a subclass of Merger"),
        (["--merger"], "--merger: expected a value"),
        (["--merger", "./my_merger.py"], "expected a dotted path such as package.module.Class"),
        (["--merger", "diffsegkit.Merger"], "is abstract: it does not define forward"),
        (["--merger", "{class_path: [Foo"], "is not valid YAML"),
        (["--merger.thresholds", "[0.2"], "expected float | Sequence[float]"),
        (["--merger.thresholds", "null"], "positive distances in nats, but got None"),
        (["--merger.thresholds", "0.2", "0.3"], 'a list is written in quotes, as "[0.2, 0.3]"'),
        (["--device", "meta"], "The device 'meta' cannot be used here"),
        (["--preset", "affinty"], "Did you mean 'affinity'"),
        (["--resize", "zoom"], "--resize: expected 'fit' | 'square' | 'crop', but got 'zoom'"),
        (["--image-size", "0"], "`image_size` to be a positive"),
        (["--device", "warp"], "The device 'warp' cannot be used here"),
        (
            ["--dtype", "int8"],
            "expected 'auto' | 'float32' | 'float16' | 'bfloat16', but got 'int8'",
        ),
        (["--batch-size", "0"], "--batch-size: expected at least 1"),
        (["--config", "none.yaml"], "--config: File does not exist"),
        (["--imag-size", "3"], "no option --imag-size; did you mean '--image-size'"),
        (["--skip-existin"], "did you mean '--skip-existing'"),
        (["--out", "photos/photo0.png"], "to be a folder, but 'photos/photo0.png' is a file"),
    ],
)
def test_wrong_usage_is_one_sentence(photos, tmp_path, capsys, args, message):
    assert run("photos/photo0.png", "--out", "out", *args) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("diffsegkit: error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


def test_a_config_that_is_no_yaml(photos, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("merger: [unclosed")
    assert run("photos/photo0.png", "--out", "out", "--config", "bad.yaml") == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "bad.yaml").write_text("mergr: KMeansMerger")
    assert run("photos/photo0.png", "--out", "out", "--config", "bad.yaml") == 2
    assert "no option --mergr; did you mean '--merger'" in capsys.readouterr().err
    for text, message in {
        "just words": "to hold options",
        "": "to hold options",
        "preset: 3": "Expected the preset to be a name, but got 3",
        "merger:": "the option 'merger' in 'bad.yaml' has no value",
        "merger: 3": "expected the name or dotted path of a Merger",
        "photos: a.png": "to be a list of names",
        "merger: {class_path: KMeansMerger, num_segments: 3}": "class_path and init_args alone",
        "merger: KMeansMergr": "Did you mean 'KMeansMerger'",
    }.items():
        (tmp_path / "bad.yaml").write_text(text)
        assert run("photos/photo0.png", "--out", "out", "--config", "bad.yaml") == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_debug_shows_the_traceback(photos, capsys):
    assert run("photos/photo0.png", "--out", "out", "--merger", "Foo", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(28, "No space left on device", "out/x"),
            "No space left on device at 'out'; free",
        ),
        (
            PermissionError(13, "Permission denied", "out/x"),
            "Permission denied at 'out/x'; check the permissions",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "use --batch-size 1 (or --data.batch_size 1), a smaller --image-size",
        ),
        (RuntimeError("boom"), "RuntimeError: boom (run again with --debug"),
    ],
)
def test_failures_while_running(photos, tmp_path, capsys, monkeypatch, error, sentence):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Segmentation, "save", fail)
    assert run("photos/photo0.png", "--out", "out", *SMALL) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert names(tmp_path / "out") == []


def test_interrupting(photos, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Segmentation, "save", interrupt)
    assert run("photos", "--out", "out", *SMALL) == 130
    assert capsys.readouterr().err.endswith("diffsegkit: interrupted\n")


def test_an_animation_is_noted(tmp_path, capsys):
    frames = [Image.new("RGB", (20, 20), (shade,) * 3) for shade in (0, 200)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("a.gif", "--out", "out", *SMALL) == 0
    assert "note: 'a.gif' has 2 frames; the first is used." in capsys.readouterr().err


def test_names_that_are_no_text(tmp_path, capsysbinary, photo):
    path = os.fsencode(tmp_path) + b"/caf\xe9\n.png"
    Image.fromarray(photo).save(os.fsdecode(path))
    assert main(["segment", os.fsdecode(path), "--out", "out", *SMALL]) == 0
    assert len(names(tmp_path / "out")) == 3


def test_many_photos_show_progress(photos, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("photos", "--out", "out", *SMALL) == 0
    error = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "3/3" in error
    assert re.search(r"\d+\.\d\d images/s", error)
    assert "ETA" in error


@pytest.mark.slow
def test_a_hundred_megapixels(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((12000, 9000), Image.Resampling.BILINEAR).save("big.jpg")
    assert run("big.jpg", "--out", "out") == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open("out/big_labels.png") as picture:
        assert picture.size == (12000, 9000)
    assert "note" not in capsys.readouterr().err
