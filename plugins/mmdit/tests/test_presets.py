"""The presets, whole, with tiny models in the place of the real ones."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

from diffsegkit import Segmenter, list_components
from diffsegkit.cli.main import main
from diffsegkit.registry import resolve
from diffsegkit_mmdit import FluxSource, SourceProposalsMerger, StableDiffusion3Source, presets

PRESETS = {
    "seg4diff-sd3": (presets.SEG4DIFF_SD3, "sd3"),
    "seg4diff-sd35": (presets.SEG4DIFF_SD35, "sd35"),
    "diffseg-sd3": (presets.DIFFSEG_SD3, "sd3"),
    "diffseg-flux": (presets.DIFFSEG_FLUX, "schnell"),
}
PHOTO = (torch.arange(60 * 90 * 3).reshape(60, 90, 3) % 251).to(torch.uint8).numpy()


def tiny(pipelines, name, **options):
    """What makes a preset one on a tiny model: fewer blocks, tokens and positions."""
    preset, family = PRESETS[name]
    options = {"model": str(pipelines[family]), "layers": [1, 2], **options}
    return Segmenter.from_preset(preset, source=options, image_size=96)


@pytest.mark.parametrize("name", PRESETS)
def test_a_photo_becomes_a_label_map(pipelines, name):
    segmenter = tiny(pipelines, name)
    [segmentation] = segmenter(PHOTO)
    cropped = name.startswith("diffseg")
    assert segmentation.labels.shape == ((60, 60) if cropped else (60, 90))
    assert segmentation.proposals.grid == (6, 6)
    [again] = segmenter(PHOTO)
    assert torch.equal(torch.as_tensor(again.labels), torch.as_tensor(segmentation.labels))


def test_seg4diffs_settings(pipelines):
    preset = presets.SEG4DIFF_SD3
    assert (preset.image_size, preset.resize) == (1024, "square")
    assert preset.source["init_args"] == {
        "model": "stabilityai/stable-diffusion-3-medium-diffusers",
        "layers": [9],
        "proposals": "clip",
    }
    source = tiny(pipelines, "seg4diff-sd3").source
    assert isinstance(source, StableDiffusion3Source)
    assert (source.noise_steps, source.inference_steps, source.noise) == (8, 28, True)
    assert (source.prompt, source.t5, source.t5_length, source.normalise) == (
        "",
        False,
        77,
        "tokens",
    )
    merger = tiny(pipelines, "seg4diff-sd3").merger
    assert isinstance(merger, SourceProposalsMerger)
    assert (merger.threshold, merger.overlap) == (0.035, True)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_registered_and_say_what_they_need(name):
    [entry] = entry_points(group="diffsegkit.presets", name=name)
    preset, family = PRESETS[name]
    assert entry.load() is preset
    assert preset.missing() == []
    source_class = resolve("sources", preset.source["class_path"])[1]
    files = source_class.weights(**preset.source["init_args"])
    assert files.model == preset.source["init_args"]["model"]
    encoders = [each.folder for each in files.components if each.folder.startswith("text_encoder")]
    assert encoders == ["text_encoder", "text_encoder_2"]
    if name.startswith("diffseg") or family == "sd35":
        assert "untuned" in preset.summary


def test_components_are_found_by_name():
    for kind, expected in (
        ("sources", FluxSource),
        ("sources", StableDiffusion3Source),
        ("mergers", SourceProposalsMerger),
    ):
        assert expected.__name__ in list_components(kind)
        assert resolve(kind, expected.__name__)[1] is expected


def test_on_the_command_line(pipelines, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    command = ["segment", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    command += ["--preset", "seg4diff-sd3", "--source.model", str(pipelines["sd3"])]
    command += ["--source.layers", "[1]", "--source.t5_length", "9", "--image-size", "96"]
    assert main([*command, "--merger.threshold", "null"]) == 0
    with Image.open(tmp_path / "out" / "photo_labels.png") as labels:
        assert labels.size == (90, 60)
    capsys.readouterr()
    assert main([*command, "--source.proposals", "null"]) == 1
    assert "SourceProposalsMerger takes the proposals of the source" in capsys.readouterr().err
    assert main([*command, "--source.layers", "[17]"]) == 2
    assert "17 selects none" in capsys.readouterr().err


def test_the_readmes_example(pipelines):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    maps = names["words"](str(pipelines["sd3"]), PHOTO, "a cat", blocks=(1, 2), side=96)
    assert [[each.shape for each in block] for block in maps] == [[(6, 6)] * 2] * 2
    # One token of twelve, and three, of all that a location attends to.
    assert all(float(cat.min()) > 0 and float((a + cat).max()) < 1 for a, cat in maps)
