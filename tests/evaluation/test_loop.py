"""The test loop: what it writes, and that its numbers are those of the label maps."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from lightning import Trainer
from PIL import Image
from scipy.optimize import linear_sum_assignment

from diffsegkit import Segmenter
from diffsegkit.data import Folder
from diffsegkit.errors import UsageError
from diffsegkit.evaluation import EvaluationModule
from diffsegkit.segmenters import OneSegment
from tests.data import layouts
from tests.evaluation.tiny import QUIET, TINY, TinySource, results, run
from tests.synthetic import read_picture

pytestmark = pytest.mark.usefixtures("own_process")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def original_scores(label_maps, targets, num_classes):
    """The protocol as the original's code has it, written anew."""
    tp, fp, fn, total = np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes), 0
    for labels, target in zip(label_maps, targets, strict=True):
        columns = max(num_classes, labels.max() + 1)
        histogram = np.zeros((num_classes, columns))
        for c, s in zip(target[target >= 0], labels[target >= 0], strict=True):
            histogram[c, s] += 1
        rows, matched = linear_sum_assignment(histogram, maximize=True)
        tp += histogram[rows, matched]
        fn += histogram.sum(1) - histogram[rows, matched]
        fp += histogram[:, matched].sum(0) - histogram[rows, matched]
        total += histogram.sum()
    with np.errstate(invalid="ignore"):
        return np.nanmean(tp / (tp + fp + fn)), tp.sum() / total


def covering(label_maps, annotations):
    """Mean over annotators, then over images, region by region."""
    images = []
    for labels, of_image in zip(label_maps, annotations, strict=True):
        scores = []
        for truth in of_image:
            score = 0
            for region in np.unique(truth):
                inside = truth == region
                overlaps = [
                    (inside & (labels == s)).sum() / (inside | (labels == s)).sum()
                    for s in np.unique(labels)
                ]
                score += inside.sum() / truth.size * max(overlaps)
            scores.append(score)
        images.append(np.mean(scores))
    return np.mean(images)


def test_the_scores_are_those_of_the_predicted_label_maps(folder, data, tmp_path):
    options = [
        *data,
        *TINY,
        *QUIET,
        "--merger.thresholds",
        "[0.3, 0.3]",
        "--out",
        tmp_path / "out",
        "--name",
        "run",
    ]
    assert run("test", *options) == 0
    assert run("predict", *options) == 0
    maps = [read_picture(tmp_path / "out" / "run" / "labels" / f"image{n}.png") for n in range(7)]
    targets = [read_picture(folder / "labels" / f"image{n}.png").astype(int) for n in range(7)]
    targets = [np.where(target == 255, -1, target) for target in targets]
    found = results(tmp_path / "out" / "run")
    [result] = found["results"]
    miou, accuracy = original_scores(maps, targets, 3)
    assert result["scores"]["mIoU"] == pytest.approx(miou, abs=1e-12)
    assert result["scores"]["ACC"] == pytest.approx(accuracy, abs=1e-12)
    assert result["scores"]["segments"] == np.mean([labels.max() + 1 for labels in maps])
    rows = read_csv(tmp_path / "out" / "run" / "per_image.csv")
    assert [row["id"] for row in rows] == [f"image{n}" for n in range(7)]
    for row, labels, target in zip(rows, maps, targets, strict=True):
        alone = original_scores([labels], [target], 3)
        assert float(row["mIoU"]) == pytest.approx(alone[0])
        assert float(row["ACC"]) == pytest.approx(alone[1])
        assert int(row["num_segments"]) == labels.max() + 1


@pytest.mark.parametrize("crop", [None, 40])
def test_the_region_protocol_too(tmp_path, crop):
    root = layouts.bsds500(tmp_path / "bsds")
    options = ["--data", "BSDS500", "--data.root", root, *TINY, *QUIET, "--name", "run"]
    options += ["--data.crop", crop] if crop else []
    assert run("test", *options) == 0
    assert run("predict", *options) == 0
    folder = tmp_path / "outputs" / "run"
    from diffsegkit.data import BSDS500

    loaded = BSDS500(root, crop=crop)
    maps = [read_picture(folder / "labels" / f"{image}.png") for image in loaded.ids]
    annotations = [[each.numpy() for each in loaded.load(n).annotations] for n in range(len(maps))]
    assert len(annotations[0]) > 1
    found = results(folder)
    assert found["results"][0]["scores"]["covering"] == pytest.approx(covering(maps, annotations))
    assert found["protocol"] == {"name": "region"}
    assert set(found["results"][0]["scores"]) == {
        "covering", "PRI", "VI", "boundary_F", "ARI", "NMI", "segments",
    }  # fmt: skip
    assert json.loads((folder / "predictions.json").read_text())["predicts"]["crop"] == crop


def test_regions_of_a_class_map_leave_out_what_is_ignored(data, folder, tmp_path):
    options = [*data, *TINY, *QUIET, "--model.protocol", "region", "--name", "run"]
    assert run("test", *options) == 0
    assert run("predict", *options) == 0
    expected = []
    for n in range(7):
        labels = read_picture(tmp_path / "outputs" / "run" / "labels" / f"image{n}.png")
        target = read_picture(folder / "labels" / f"image{n}.png")
        counted = target != 255
        expected.append(covering([labels[counted]], [[target[counted]]]))
    [result] = results(tmp_path / "outputs" / "run")["results"]
    assert result["scores"]["covering"] == pytest.approx(np.mean(expected))


def test_what_a_result_says(data, tmp_path):
    assert run("test", *data, *TINY, *QUIET, "--model.needs", '["AX"]', "--seed_everything", 7) == 0
    folder = tmp_path / "outputs" / "Folder" / "affinity"
    found = results(folder)
    assert found["name"] == "Folder/affinity"
    assert found["needs"] == {"LD": False, "UA": False, "AX": True}
    assert found["protocol"] == {
        "name": "image-matched",
        "variant": "original",
        "background": "class",
    }
    assert found["data"]["name"] == "Folder"
    assert found["data"]["crop"] is None
    assert (found["seed"], found["device"], found["images"], found["processes"]) == (7, "cpu", 7, 1)
    assert found["versions"]["torchmetrics"]
    [result] = found["results"]
    assert result["configuration"]["source"]["class_path"] == "tests.evaluation.tiny.TinySource"
    assert result["configuration"]["merger"]["init_args"]["thresholds"] == [1.5, 1.5, 1.5]
    assert set(result["times_ms"]) == {"prepare", "extract", "aggregate", "merge", "assign"}
    assert (
        set(result["per_class"]["mIoU"]) == {"0", "1", "2"} or len(result["per_class"]["mIoU"]) == 3
    )
    table = (folder / "table.md").read_text()
    assert "### Folder" in table
    assert "image-matched, original" in table
    assert re.search(r"\| affinity \| no \| no \| yes \| 0\.\d{4} \|", table)
    [row] = read_csv(tmp_path / "outputs" / "results.csv")
    assert row["AX"] == "yes"
    assert float(row["mIoU (image-matched, original)"]) == result["scores"]["mIoU"]
    assert json.loads(row["configuration"]) == result["configuration"]
    with Image.open(folder / "pictures" / "extremes.png") as picture:
        assert picture.width > 3 * 200


def test_git_state_is_that_of_the_working_directory(data, monkeypatch, tmp_path):
    import subprocess

    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y"]
    (repository / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert run("test", *data, *QUIET, "--segmenter", "OneSegment") == 0
    assert results(repository / "outputs/Folder/OneSegment")["git"] == {
        "commit": commit,
        "changed": False,
    }
    (repository / "file").write_text("two")
    assert run("test", *data, *QUIET, "--segmenter", "OneSegment") == 0
    assert results(repository / "outputs/Folder/OneSegment")["git"] == {
        "commit": commit,
        "changed": True,
    }


def test_batches_and_workers_change_no_number(data, tmp_path):
    for name, options in {
        "one": [],
        "three": ["--data.batch_size", 3],
        "workers": ["--data.num_workers", 2, "--data.batch_size", 2],
    }.items():
        assert run("test", *data, *TINY, *QUIET, "--name", name, *options) == 0
    found = [
        results(tmp_path / "outputs" / name)["results"][0] for name in ("one", "three", "workers")
    ]
    assert found[0]["scores"] == found[1]["scores"] == found[2]["scores"]
    tables = [
        (tmp_path / "outputs" / name / "per_image.csv").read_text().replace(name, "")
        for name in ("one", "three", "workers")
    ]
    assert tables[0] == tables[1] == tables[2]


def test_from_python(folder, tmp_path):
    data = Folder(images=folder / "images", labels=folder / "labels")
    segmenter = Segmenter.from_preset("affinity", source={"cells": [16, 8]}, image_size=64)
    module = EvaluationModule(
        {"mine": segmenter, "one": OneSegment()}, tmp_path / "run", pictures=0
    )
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    [logged] = trainer.test(module, datamodule=data, verbose=False)
    found = {result["method"]: result for result in results(tmp_path / "run")["results"]}
    assert logged["mine/mIoU"] == pytest.approx(found["mine"]["scores"]["mIoU"])
    assert found["one"]["scores"]["segments"] == 1
    assert not (tmp_path / "run" / "pictures").exists()
    # The best single label of each image.
    targets = [read_picture(folder / "labels" / f"image{n}.png").astype(int) for n in range(7)]
    best = sum(np.bincount(target[target < 255]).max() for target in targets)
    assert found["one"]["scores"]["ACC"] == pytest.approx(
        best / sum((t < 255).sum() for t in targets)
    )


class RecordsNumbers(OneSegment):
    def forward(self, images, *, prompts=None, num_segments=None, batch_size=1):
        self.told.append(num_segments)
        return super().forward(images, batch_size=batch_size)


@pytest.mark.parametrize(
    ("known", "expected"), [("none", [None] * 3), ("target", [[1], [3], [2]]), ("mean", [[2]] * 3)]
)
def test_what_a_method_is_told(tmp_path, known, expected):
    for number, values in enumerate(([0, 0, 255, 255], [0, 1, 2, 2], [2, 2, 1, 255])):
        stored = layouts.quarters(values)
        layouts.write_image(tmp_path / "images" / f"{number}.png", stored)
        layouts.write_label(tmp_path / "labels" / f"{number}.png", stored)
    method = RecordsNumbers()
    method.told = []
    module = EvaluationModule(method, tmp_path / "run", num_segments=known, pictures=0)
    data = Folder(images=tmp_path / "images", labels=tmp_path / "labels")
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.test(module, datamodule=data, verbose=False)
    assert method.told == expected


class Fails(OneSegment):
    def label_map(self, image):
        raise KeyError("boom")


def test_a_method_that_fails_is_said_with_the_image(data, capsys):
    assert run("test", *data, *QUIET, "--segmenter", "tests.evaluation.test_loop.Fails") == 1
    assert "Fails failed on 'image0': KeyError: 'boom'" in capsys.readouterr().err


def test_clusters_that_mean_the_same_in_every_image(data, tmp_path, capsys):
    options = [
        *data,
        *QUIET,
        "--segmenter",
        "SLIC",
        "--segmenter.num_segments",
        8,
        "--model.protocol",
        "dataset-matched",
    ]
    assert run("test", *options) == 1
    assert "num_clusters" in capsys.readouterr().err
    assert run("test", *options, "--model.num_clusters", 20, "--overwrite") == 0
    found = results(tmp_path / "outputs" / "Folder" / "SLIC")
    assert found["protocol"] == {"name": "dataset-matched", "num_clusters": 20}


def test_examples_of_the_help_name_files_that_exist():
    root = Path(__file__).parents[2]
    from diffsegkit.cli import predict, sweep, test

    named = [
        pattern
        for module in (predict, sweep, test)
        for pattern in re.findall(r"experiments/\S+\.yaml", module._COMMAND.epilog)
    ]
    assert len(named) >= 4
    for pattern in named:
        assert list(root.glob(pattern)), pattern


def test_variants_differ_where_segments_outnumber_classes(data, tmp_path):
    # Classes 3 and 4 never occur; the original books left-over segments as their errors.
    slic = ["--segmenter", "SLIC", "--segmenter.num_segments", 20, "--data.num_classes", 5]
    scores = {}
    for variant in ("original", "tie_free"):
        options = [*data, *QUIET, *slic, "--model.variant", variant, "--name", variant]
        assert run("test", *options) == 0
        [result] = results(tmp_path / "outputs" / variant)["results"]
        scores[variant] = result["scores"]["mIoU"]
    assert scores["tie_free"] > scores["original"]
    rows = read_csv(tmp_path / "outputs" / "results.csv")
    columns = [column for column in rows[0] if column.startswith("mIoU")]
    assert columns == ["mIoU (image-matched, original)", "mIoU (image-matched, tie_free)"]
    assert [bool(row[columns[0]]) for row in rows] == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.protocol", "regio"], "expected 'image-matched' | 'dataset-matched' | 'region', but got 'regio'"),
        (["--model.background", "many-to-one"], "Folder has no background class"),
        (["--model.num_segments", "some"], "--model.num-segments"),
        (["--model.pictures", -1], "Expected argument `pictures` to be at least 0"),
        (["--resize", "crop"], "let the data crop (--data.crop 512), not the segmenter (--resize fit)"),
        (["--mergr", "x"], "There is no option --mergr"),
        (["--merger", "KMeansMergr"], "Did you mean 'KMeansMerger'"),
        (["--model.needs", "XX"], "expected a list, such as"),
        (["--segmenter", "OneSegment"], "--segmenter is a whole method, so --source has no meaning"),
        (["--name", "../x"], "Expected --name to be a folder below --out"),
        (["--trainer.precision", "bf16-mixed"], "Expected the trainer's precision to be 32-true"),
        (["--data.batch_size", 0], "Expected argument `batch_size` to be at least 1"),
        (["--trainer.accelerator", "quantum"], "--trainer"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence(data, options, message, capsys):
    assert run("test", *data, *TINY, *QUIET, *options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_without_a_data_set(capsys):
    assert run("test") == 2
    assert "Expected a data set: --data NAME" in capsys.readouterr().err
    assert run("test", "--data", "COCOStuf27") == 2
    assert "Did you mean 'COCOStuff27'" in capsys.readouterr().err
    assert run("test", "--data", "BSDS500", "--data.root", "nowhere") == 2
    err = capsys.readouterr().err
    assert "groundTruth" in err
    assert "It is to be had from" in err


def test_ground_truth_that_is_missing(folder, data, capsys, tmp_path):
    assert run("test", *data[:4], *TINY, *QUIET) == 2
    assert "has no ground truth" in capsys.readouterr().err
    assert run("predict", *data[:4], *TINY, *QUIET) == 0
    assert len(list((tmp_path / "outputs").rglob("image*.png"))) == 7


def test_a_broken_image_stops_the_run_and_names_the_file(folder, data, capsys):
    path = folder / "images" / "image4.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert run("test", *data, *TINY, *QUIET) == 1
    err = capsys.readouterr().err
    assert "image4.png' is damaged" in err
    assert "Traceback" not in err
    path.write_bytes(whole)
    assert run("test", *data, *TINY, *QUIET, "--resume") == 0


def test_the_trainers_limit_is_not_a_smaller_data_set(data, capsys):
    assert run("test", *data, *TINY, *QUIET, "--trainer.limit_test_batches", 3) == 1
    err = capsys.readouterr().err
    assert "4 are missing" in err
    assert "use --data.limit" in err


def test_several_methods_cannot_predict(folder, tmp_path):
    module = EvaluationModule({"a": OneSegment(), "b": OneSegment()}, tmp_path)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(UsageError, match="Expected one method to predict with"):
        trainer.predict(module, datamodule=Folder(images=folder / "images"))


def test_other_data_modules_are_refused(tmp_path):
    from lightning.pytorch.demos.boring_classes import BoringDataModule

    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(UsageError, match="SegmentationDataModule, but got BoringDataModule"):
        trainer.test(
            EvaluationModule(OneSegment(), tmp_path), datamodule=BoringDataModule(), verbose=False
        )


def test_arguments():
    with pytest.raises(UsageError, match="at least one method"):
        EvaluationModule({}, "run")
    with pytest.raises(UsageError, match="`needs` to be one of"):
        EvaluationModule(OneSegment(), "run", needs=["XX"])


def test_printed_configuration_reproduces_the_run(data, tmp_path, capsys):
    options = [*data, *TINY, *QUIET, "--merger.thresholds", "[0.5]"]
    capsys.readouterr()
    assert run("test", *options, "--print_config") == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert run("test", *options, "--name", "typed") == 0
    assert run("test", tmp_path / "printed.yaml", "--name", "printed") == 0
    typed, printed = (results(tmp_path / "outputs" / name) for name in ("typed", "printed"))
    assert typed["results"][0]["scores"] == printed["results"][0]["scores"]
    assert typed["results"][0]["configuration"] == printed["results"][0]["configuration"]


def test_attention_is_computed_once_per_image_in_a_sweep(data, tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        "sweep:\n"
        "  base: {}\n"
        "  small: {merger: {thresholds: [0.1, 0.1]}}\n"
        "  coarse: {aggregator: {weighting: {8: 1}}}\n"
        "  kmeans: {merger: {class_path: KMeansMerger, init_args: {num_segments: 2}}}\n"
        "  one: {segmenter: OneSegment}\n"
        "  slic: {segmenter: {class_path: SLIC, init_args: {num_segments: 3}}}\n"
    )
    TinySource.calls = 0
    assert run("sweep", tmp_path / "sweep.yaml", *data, *TINY, *QUIET, "--model.pictures", 0) == 0
    assert TinySource.calls == 7
    folder = tmp_path / "outputs" / f"{tmp_path.name}" / "sweep"
    found = {result["method"]: result for result in results(folder)["results"]}
    assert list(found) == ["base", "small", "coarse", "kmeans", "one", "slic"]
    # Each variant gives what it gives alone.
    alone = {
        "base": [],
        "small": ["--merger.thresholds", "[0.1, 0.1]"],
        "coarse": ["--aggregator.weighting", "{8: 1}"],
        "kmeans": ["--merger", "KMeansMerger", "--merger.num_segments", 2],
        "one": ["--segmenter", "OneSegment"],
        "slic": ["--segmenter", "SLIC", "--segmenter.num_segments", 3],
    }
    for name, options in alone.items():
        parts = [] if "--segmenter" in options else TINY
        assert run("test", *data, *parts, *QUIET, "--name", f"alone_{name}", *options) == 0
        [result] = results(tmp_path / "outputs" / f"alone_{name}")["results"]
        assert result["scores"] == found[name]["scores"], name
        assert result["configuration"] == found[name]["configuration"], name
    assert len({tuple(result["scores"].values()) for result in found.values()}) > 2


@pytest.mark.parametrize("form", [["-c", "set/k.yaml"], ["--config=set/k.yaml"], ["set/k.yaml"]])
def test_however_a_configuration_is_given_its_preset_counts(data, form, tmp_path):
    (tmp_path / "set" / "k.yaml").write_text("preset: diffseg\nresize: fit\n")
    assert run("test", *form, *data, *TINY, *QUIET, "--model.pictures", 0) == 0
    found = results(tmp_path / "outputs" / "set" / "k")
    assert found["preset"] == "diffseg"
    merger = found["results"][0]["configuration"]["merger"]
    assert merger["init_args"]["thresholds"] == [1.1, 1.1, 1.1]


def test_wrong_sweeps(data, tmp_path, capsys):
    for text, message in {
        "sweep: {}": "Expected variants to evaluate",
        "preset: affinity": "Expected variants to evaluate",
        "sweep: {a: {mergr: {}}}": "The variant 'a': There is no 'mergr' to override; did you mean 'merger'?",
        "sweep: {a: {merger: {tau: 1}}}": "The variant 'a': IterativeKLMerger has no argument 'tau'",
        "sweep: {a: {}}\nsegmenter: OneSegment": "--segmenter has none",
        "sweep: {a: {segmenter: OneSegmnt}}": "There is no segmenter called 'OneSegmnt'",
        "sweep: {a: {segmenter: OneSegment, merger: {refine: true}}}": "The variant 'a': a segmenter is a whole method, so merger has no meaning beside it",
        "sweep: {a: {segmenter: {class_path: SLIC, init_args: {k: 3}}}}": "The variant 'a': SLIC has no argument 'k'",
    }.items():
        (tmp_path / "sweep.yaml").write_text(text)
        assert run("sweep", tmp_path / "sweep.yaml", *data, *QUIET) == 2
        assert message in capsys.readouterr().err, text


def test_several_configurations_one_table(folder, tmp_path, capsys):
    where = f"data: {{class_path: Folder, init_args: {{images: {folder}/images, labels: {folder}/labels}}}}\n"
    quiet = "trainer: {logger: false, enable_progress_bar: false, accelerator: cpu}\n"
    (tmp_path / "one.yaml").write_text(where + quiet + "segmenter: OneSegment\n")
    (tmp_path / "two.yaml").write_text(
        where + quiet + "segmenter: {class_path: SLIC, init_args: {num_segments: 4}}\n"
    )
    (tmp_path / "broken.yaml").write_text(where + quiet + "segmenter: OneSegmant\n")
    assert run("test", "one.yaml", "broken.yaml", "two.yaml", "--model.pictures", 0) == 1
    captured = capsys.readouterr()
    assert captured.out.count("### Folder") == 1
    assert re.search(r"\| one \|.*\n\| two \|", captured.out)
    assert "failed: broken.yaml" in captured.err
    rows = read_csv(Path("outputs/results.csv"))
    assert [row["method"] for row in rows] == ["one", "two"]
    assert run("test", "one.yaml", "absent.yaml") == 2
    assert "no configuration file 'absent.yaml'" in capsys.readouterr().err
    assert run("test", "one.yaml", "two.yaml", "--name", "x") == 2
