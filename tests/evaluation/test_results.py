"""Tables that compare what is comparable, pictures, and loggers."""

import csv
import sys

import numpy as np
import pytest
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from diffsegkit.data import Folder
from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.evaluation import EvaluationModule, Protocol
from diffsegkit.evaluation.pictures import extremes, log_pictures
from diffsegkit.evaluation.run_folder import RunFolder
from diffsegkit.evaluation.table import Row, append_rows, markdown, read_rows
from diffsegkit.segmenters import SLIC, OneSegment
from tests.evaluation.tiny import QUIET, run


def document(run="r1", protocol="image-matched, original", scores=None, **changes):
    return {
        "run": run, "finished": "now", "name": f"set/{run}",
        "data": {"name": "Set", "split": "val", "crop": 512, "images": 10}, "images": 10,
        "needs": {"LD": False, "UA": True, "AX": False}, "told": "", "device": "cpu",
        "processes": 1, "seed": 0, "dtype": "auto", "git": None, "versions": {"torch": "1"},
        "results": [{"method": run, "protocol": protocol, "scores": scores or {"mIoU": 0.5}, "configuration": {"merger": "x,\"y\""}}],
        **changes,
    }  # fmt: skip


def row(**changes):
    whole = document(**changes)
    return Row.from_document(whole, whole["results"][0])


def test_what_is_comparable_is_one_table():
    text = markdown([row(run="a"), row(run="b", scores={"mIoU": 0.25, "ACC": float("nan")})])
    assert text.splitlines() == [
        f"### Set val, 10 images, centre square of 512 pixels (data {row().cells['data_digest'][:8]}) - image-matched, original",
        "",
        "| method | LD | UA | AX | mIoU |",
        "| --- | --- | --- | --- | ---: |",
        "| a | no | yes | no | 0.5000 |",
        "| b | no | yes | no | 0.2500 |",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "image-matched, tie_free"},
        {"protocol": "dataset-matched"},
        {"protocol": "image-matched, original, many-to-one background"},
        {"images": 9},
        {"data": {"name": "Set", "split": "val", "crop": None, "images": 10}},
        {"data": {"name": "Set", "split": "val", "crop": 512, "images": 10, "ids_sha256": "other"}},
        {"data": {"name": "Set", "split": "test", "crop": 512, "images": 10}},
    ],
)
def test_what_is_not_comparable_is_another(changes):
    text = markdown([row(run="a"), row(run="b", **changes), row(run="c")])
    assert text.count("### ") == 2
    first, second = text.split("### ")[1:]
    assert "| a |" in first
    assert "| c |" in first
    assert "| b |" in second


def test_how_the_images_were_chosen_does_not_part_them():
    chosen = {
        "name": "Set",
        "split": "val",
        "crop": 512,
        "images": 10,
        "limit": 10,
        "ids_file": "x.txt",
    }
    assert markdown([row(run="a"), row(run="b", data=chosen)]).count("### ") == 1


def test_what_a_method_was_told_is_a_column():
    text = markdown([row(run="a"), row(run="b", told="K of each image")])
    assert "| method | LD | UA | AX | told | mIoU |" in text
    assert "| b | no | yes | no | K of each image | 0.5000 |" in text


def test_rows_are_added_and_columns_grow(tmp_path):
    path = tmp_path / "new" / "results.csv"
    append_rows(path, [row(run="a")])
    append_rows(path, [row(run="b", protocol="region", scores={"PRI": 0.75})])
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["mIoU (image-matched, original)"], first["PRI (region)"]) == ("0.5", "")
    assert (second["mIoU (image-matched, original)"], second["PRI (region)"]) == ("", "0.75")
    assert read_rows(path)[0].cells["configuration"] == '{"merger": "x,\\"y\\""}'
    # A run that is resumed replaces its rows.
    append_rows(path, [row(run="a", scores={"mIoU": 0.6})])
    assert [each.cells["run"] for each in read_rows(path)] == ["b", "a"]
    assert markdown(read_rows(path)).count("### ") == 2
    assert read_rows(tmp_path / "absent.csv") == []


def test_extremes():
    ids = [str(number) for number in range(9)]
    assert extremes(ids, 2) == [
        ("best", "0"), ("best", "1"), ("median", "3"), ("median", "4"), ("worst", "7"), ("worst", "8"),
    ]  # fmt: skip
    assert extremes(["a"], 3) == [("best", "a")]
    assert extremes(["a", "b"], 1) == [("best", "a"), ("worst", "b")]
    assert extremes([], 1) == []
    assert extremes(ids, 0) == []


def test_protocols():
    assert Protocol("region", variant="tie_free").label() == "region"
    assert (
        Protocol("image-matched", background="many-to-one").label()
        == "image-matched, original, many-to-one background"
    )
    with pytest.raises(UsageError, match="Expected the protocol's name to be one of"):
        Protocol("imagematched")
    with pytest.raises(UsageError, match="Expected the protocol's variant to be one of"):
        Protocol("image-matched", variant="tiefree")


def test_a_run_that_lacks_images(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.journal(0) as journal:
        for image in "ba":
            journal.append({"id": image, "files": f"sha of {image}", "methods": {}})
        journal.append({"id": "b", "files": "as it was before", "methods": {"m": {"n": 1}}})
    a, b, c = ({image: f"sha of {image}"} for image in "abc")
    assert [record["id"] for record in folder.complete_records(a | b)] == ["a", "b"]
    assert folder.done(a | {"b": "as it is now"}) == ["a"]
    with pytest.raises(DiffSegKitError, match=r"1 are missing \['c'\]"):
        folder.complete_records(a | b | c)
    with pytest.raises(DiffSegKitError, match=r"1 are unknown \['b'\]"):
        folder.complete_records(a)


def trained(folder, tmp_path, **trainer):
    module = EvaluationModule({"slic": SLIC(), "one": OneSegment()}, tmp_path / "run")
    data = Folder(images=folder / "images", labels=folder / "labels")
    Trainer(
        accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False, **trainer
    ).test(module, datamodule=data, verbose=False)
    return module


def test_the_picture_shows_photo_ground_truth_and_segments(folder, tmp_path):
    trained(folder, tmp_path, logger=False)
    with Image.open(tmp_path / "run" / "pictures" / "extremes.png") as picture:
        pixels = np.asarray(picture).astype(int)
    # Four columns (photo, truth, two methods) and three rows of 280 x 210 with captions.
    assert pixels.shape == (3 * (210 + 34), 4 * 288, 3)
    photo, truth, slic, one = (pixels[:210, 288 * n : 288 * n + 280] for n in range(4))
    grey = (truth == 96).all(-1).mean()
    assert 0.1 < grey < 0.4  # what is ignored
    assert not np.array_equal(photo, one)  # one segment is coloured too
    assert not np.array_equal(slic, one)


def test_tensorboard_gets_numbers_and_pictures(folder, tmp_path):
    trained(
        folder, tmp_path, logger=[TensorBoardLogger(tmp_path / "tb"), CSVLogger(tmp_path / "csv")]
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = (tmp_path / "tb").rglob("events.*")
    accumulator = EventAccumulator(str(events)).Reload()
    assert accumulator.Tags()["images"] == ["extremes"]
    assert {"slic/mIoU", "one/ACC"} <= set(accumulator.Tags()["scalars"])
    [metrics] = (tmp_path / "csv").rglob("metrics.csv")
    assert "slic/mIoU" in metrics.read_text()


def test_wandb_gets_pictures():
    logged = {}
    logger = WandbLogger.__new__(WandbLogger)
    logger.log_image = lambda key, images: logged.update({key: images})
    picture = Image.new("RGB", (4, 4))
    log_pictures([logger], {"extremes": picture})
    assert logged == {"extremes": [picture]}


@pytest.mark.usefixtures("own_process")
def test_a_logger_that_is_not_installed_names_the_extra(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert (
        run(
            "test",
            *data,
            *QUIET[2:],
            "--segmenter",
            "OneSegment",
            "--trainer.logger",
            "WandbLogger",
        )
        == 2
    )
    assert "pip install 'diffsegkit[wandb]'" in capsys.readouterr().err


@pytest.mark.usefixtures("own_process")
def test_by_default_what_is_logged_is_a_csv(data, tmp_path):
    assert run("test", *data, *QUIET[2:], "--segmenter", "OneSegment") == 0
    text = (tmp_path / "outputs/Folder/OneSegment/logs/metrics.csv").read_text()
    assert "mIoU" in text
