"""Names for segments: the optional fifth part, everywhere it shows."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import Namer, Preset, Proposals, Segmenter, list_components
from diffsegkit.cli.main import main
from diffsegkit.errors import UsageError
from diffsegkit.presets import AFFINITY, part
from diffsegkit.segmentation import join_names


class BrightnessNamer(Namer):
    """Names by the mean brightness of a segment; several segments may be dark."""

    def __init__(self, dark: str = "dark", bright: str = "bright", threshold: float = 0.5) -> None:
        super().__init__()
        self.dark, self.bright, self.threshold = dark, bright, threshold

    def forward(self, labels, *, aggregated):
        images = torch.nn.functional.interpolate(aggregated.source.images, size=labels.shape[1:])
        return [
            [
                self.bright if image.mean(0)[own == index].mean() > self.threshold else self.dark
                for index in range(int(own.max()) + 1)
            ]
            for own, image in zip(labels, images, strict=True)
        ]


@pytest.fixture
def stripes():
    """Dark red, white, dark blue: three segments, of which two are dark."""
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, :30, 0], image[:, 30:60], image[:, 60:, 2] = 120, 255, 120
    return image


def test_segments_of_one_name_become_one(stripes):
    plain = Segmenter.from_preset("affinity")
    [before] = plain(stripes)
    assert before.num_segments == 3
    assert before.names is None
    segmenter = Segmenter.from_preset("affinity", namer=BrightnessNamer())
    [after] = segmenter(stripes)
    assert after.names == ("dark", "bright")
    assert after.num_segments == len(after.proposals) == 2
    labels = after.labels.numpy()
    assert labels[30, 10] == labels[30, 80] == after.names.index("dark")
    assert labels[30, 45] == after.names.index("bright")
    torch.testing.assert_close(after.proposals.maps.sum((1, 2)), torch.ones(2))
    assert "name" in after.times
    assert "name" not in before.times


def test_a_batch_of_images_each_with_its_names(stripes):
    segmenter = Segmenter.from_preset("affinity", namer=BrightnessNamer(threshold=0.1))
    images = [stripes, np.full((60, 90, 3), 250, np.uint8), stripes[:, ::-1].copy()]
    together = segmenter(images, batch_size=3)
    for image, own in zip(images, together, strict=True):
        [alone] = segmenter(image)
        assert torch.equal(alone.labels, own.labels)
        assert alone.names == own.names
    assert together[1].names == ("bright",)


def test_joined_proposals_are_the_mean_by_area():
    maps = torch.tensor([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]], [[0, 0, 1.0, 0]]])
    labels = torch.tensor([[0, 1, 2, 2]])
    joined, kept, names = join_names(labels, Proposals(maps, scores=maps * 5), ["a", "b", "a"])
    assert names == ("a", "b")
    assert joined.tolist() == [[0, 1, 0, 0]]
    torch.testing.assert_close(kept.maps[0], torch.tensor([[1 / 3, 0, 2 / 3, 0]]))
    assert kept.scores[0].tolist() == [[5, 0, 5, 0]]
    same = join_names(labels, Proposals(maps), ["a", "b", "c"])
    assert same[0] is labels
    assert same[2] == ("a", "b", "c")


def test_names_are_written_everywhere(stripes, tmp_path):
    segmenter = Segmenter.from_preset("affinity", namer=BrightnessNamer())
    [segmentation] = segmenter(stripes)
    segmentation.save(tmp_path, "one", image=stripes)
    record = json.loads((tmp_path / "one.json").read_text())
    assert [segment["name"] for segment in record["segments"]] == ["dark", "bright"]
    assert [segment["name"] for segment in segmentation.to_coco()] == ["dark", "bright"]
    with_names = np.asarray(Image.open(tmp_path / "one_overlay.png"))
    [plain] = Segmenter.from_preset("affinity")(stripes)
    plain.save(tmp_path, "two", image=stripes)
    assert "name" not in json.loads((tmp_path / "two.json").read_text())["segments"][0]
    # White letters on the dark stripes.
    assert (with_names[:, 5:25] > 240).all(-1).any() or (with_names[:, 65:85] > 240).all(-1).any()


def test_configuration_and_presets():
    segmenter = Segmenter.from_preset("affinity")
    assert "namer" not in segmenter.configuration
    preset = Preset(
        "Named.", AFFINITY.source, namer=part(f"{__name__}.BrightnessNamer", dark="night")
    )
    named = Segmenter.from_preset(preset)
    assert named.namer.dark == "night"
    assert named.configuration["namer"]["init_args"] == {
        "dark": "night",
        "bright": "bright",
        "threshold": 0.5,
    }
    assert Segmenter.from_preset(preset, namer={"bright": "day"}).namer.bright == "day"
    assert Segmenter.from_preset(preset, namer=None).namer is None
    with pytest.raises(UsageError, match="no argument 'night'"):
        Segmenter.from_preset(preset, namer={"night": "x"})
    with pytest.raises(TypeError, match="`namer` to be a Namer or None"):
        Segmenter(
            segmenter.source,
            segmenter.aggregator,
            segmenter.merger,
            segmenter.assigner,
            namer=segmenter.merger,
        )
    assert list_components("namers") == []


class WrongNamer(Namer):
    def forward(self, labels, *, aggregated):
        return [["only one"] for _ in labels]


def test_a_namer_that_forgets_segments_is_told(stripes):
    segmenter = Segmenter.from_preset("affinity", namer=WrongNamer)
    with pytest.raises(
        ValueError, match=r"WrongNamer gave \[1\] names for images with \[3\] segments"
    ):
        segmenter(stripes)
    with pytest.raises(ValueError, match="this one has none"):
        Segmenter.from_preset("affinity").name(torch.zeros(1, 2, 2).long(), None)


@pytest.fixture
def folder(tmp_path, monkeypatch, stripes):
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(stripes).save(tmp_path / "photos" / "one.png")
    Image.fromarray((stripes[..., 1] > 100).astype(np.uint8)).save(tmp_path / "masks" / "one.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMER = ["--namer", f"{__name__}.BrightnessNamer"]


def test_on_the_command_line(folder, capsys):
    assert main(["segment", "photos", "--out", "out", *NAMER, "--namer.dark", "night"]) == 0
    record = json.loads((folder / "out" / "one.json").read_text())
    assert [segment["name"] for segment in record["segments"]] == ["night", "bright"]
    assert record["configuration"]["namer"]["init_args"]["dark"] == "night"
    capsys.readouterr()
    assert main(["segment", "photos", "--out", "out", *NAMER, "--print_config"]) == 0
    (folder / "config.yaml").write_text(capsys.readouterr().out)
    assert main(["segment", "--config", "config.yaml", "--out", "again"]) == 0
    again = json.loads((folder / "again" / "one.json").read_text())
    assert [segment["name"] for segment in again["segments"]] == ["dark", "bright"]
    assert main(["segment", "photos", "--out", "out", "--namer", "Nobody"]) == 2
    assert "There is no namer called 'Nobody'" in capsys.readouterr().err
    # A configuration without a namer prints none, and is read again.
    assert main(["segment", "photos", "--out", "out", "--print_config"]) == 0
    printed = capsys.readouterr().out
    (folder / "plain.yaml").write_text(printed)
    assert main(["segment", "--config", "plain.yaml", "--out", "plain"]) == 0


def test_what_is_scored_has_the_names_joined(folder):
    data = ["--data", "Folder", "--data.images", "photos", "--data.labels", "masks"]
    quiet = ["--trainer.enable_progress_bar", "false", "--model.pictures", "0"]
    numbers = {}
    for name, options in {"plain": [], "named": NAMER}.items():
        assert main(["test", *data, *quiet, "--name", name, *options]) == 0
        rows = (folder / "outputs" / name / "per_image.csv").read_text().splitlines()
        numbers[name] = dict(zip(*(row.split(",") for row in rows), strict=True))["num_segments"]
    assert numbers == {"plain": "3", "named": "2"}


def test_predictions_have_names_in_the_manifest(folder):
    data = ["--data", "Folder", "--data.images", "photos"]
    quiet = ["--trainer.enable_progress_bar", "false"]
    assert main(["predict", *data, *quiet, "--name", "named", *NAMER]) == 0
    [manifest] = (folder / "outputs" / "named").rglob("manifest.jsonl")
    [line] = manifest.read_text().splitlines()
    assert json.loads(line)["names"] == ["dark", "bright"]
    assert main(["predict", *data, *quiet, "--name", "named", "--resume", *NAMER]) == 0
