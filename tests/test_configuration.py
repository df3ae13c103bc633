"""From presets, names and plain data to a segmenter."""

import numpy as np
import pytest
import torch

from diffsegkit import Preset, Segmenter
from diffsegkit.errors import ComponentError, UsageError
from diffsegkit.mergers import IterativeKLMerger, KMeansMerger, RandomAnchors
from diffsegkit.presets import AFFINITY, part
from tests.plugins import MERGER, forget, install


def test_the_preset_as_it_is():
    segmenter = Segmenter.from_preset("affinity")
    assert isinstance(segmenter.merger, IterativeKLMerger)
    assert segmenter.merger.thresholds == tuple(AFFINITY.merger["init_args"]["thresholds"])
    assert segmenter.configuration["image_size"] == 512
    assert segmenter.configuration["merger"]["init_args"]["points_per_side"] == 16
    again = Segmenter.from_preset(AFFINITY)
    assert again.configuration == segmenter.configuration


@pytest.mark.parametrize(
    "override",
    [
        KMeansMerger(num_segments=3),
        {"class_path": "KMeansMerger", "init_args": {"num_segments": 3}},
        {"class_path": "diffsegkit.mergers.KMeansMerger", "init_args": {"num_segments": 3}},
    ],
    ids=["instance", "name", "path"],
)
def test_a_part_exchanged(override):
    segmenter = Segmenter.from_preset("affinity", merger=override)
    assert isinstance(segmenter.merger, KMeansMerger)
    assert segmenter.merger.num_segments == 3
    assert segmenter.configuration["merger"]["class_path"].endswith("KMeansMerger")


def test_a_part_by_name_alone_has_its_own_defaults():
    assert Segmenter.from_preset("affinity", merger="KMeansMerger").merger.num_segments == 6


def test_a_part_by_its_class_alone():
    class Local(KMeansMerger):
        pass

    for merger in (KMeansMerger, Local):
        segmenter = Segmenter.from_preset("affinity", merger=merger)
        assert type(segmenter.merger) is merger
        assert segmenter.merger.num_segments == 6


def test_numbers_of_numpy():
    change = {"thresholds": np.array([0.25, 0.5]), "points_per_side": np.int64(4)}
    merger = Segmenter.from_preset("affinity", merger=change).merger
    assert merger.thresholds == (0.25, 0.5)
    nested = {"class_path": "KMeansMerger", "init_args": {"num_segments": np.int64(3)}}
    segmenter = Segmenter.from_preset("affinity", merger=nested, image_size=np.int64(128))
    assert (segmenter.merger.num_segments, segmenter.image_size) == (3, 128)
    assert IterativeKLMerger(np.float32(0.5)).thresholds == (0.5,)


def test_an_instance_is_recorded_as_it_shows_itself_and_not_rebuilt():
    first = Segmenter.from_preset("affinity", merger=KMeansMerger(num_segments=3))
    assert first.configuration["merger"]["instance"] == "KMeansMerger(num_segments=3, seed=0)"
    with pytest.raises(UsageError, match="class_path and init_args alone"):
        Segmenter.from_preset("affinity", **first.configuration)


def test_arguments_changed_keep_the_rest_of_the_preset():
    for change in ({"refine": True}, {"init_args": {"refine": True}}):
        merger = Segmenter.from_preset("affinity", merger=change).merger
        assert merger.refine
        assert merger.thresholds == Segmenter.from_preset("affinity").merger.thresholds


def test_parts_within_parts():
    anchors = {"class_path": "RandomAnchors", "init_args": {"seed": 5}}
    merger = Segmenter.from_preset("affinity", merger={"anchors": anchors}).merger
    assert isinstance(merger.anchors, RandomAnchors)
    assert merger.anchors.seed == 5


def test_options():
    segmenter = Segmenter.from_preset("affinity", image_size=128, resize="crop", antialias=False)
    assert (segmenter.image_size, segmenter.resize, segmenter.antialias) == (128, "crop", False)


def test_the_configuration_is_enough_to_build_it_again():
    first = Segmenter.from_preset(
        "affinity",
        merger={"thresholds": [0.5], "overlap": False},
        aggregator={"weighting": {64: 1}},
    )
    second = Segmenter.from_preset("affinity", **first.configuration)
    assert repr(first) == repr(second)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mergr": "KMeansMerger"}, "no 'mergr' to override; did you mean 'merger'"),
        ({"merger": "KMeanMerger"}, "Did you mean 'KMeansMerger'"),
        ({"merger": 3}, "instance of Merger, but got 3"),
        ({"merger": {"treshold": 3}}, "no argument 'treshold'; did you mean 'thresholds'"),
        ({"merger": {"thresholds": "low"}}, r"expected float \| Sequence\[float\]"),
        ({"merger": {"thresholds": [-1]}}, r"positive distances in nats, but got \[-1"),
        ({"merger": {"class_path": 3}}, "a name, a dotted path, or a mapping"),
        ({"merger": {"init_args": None}}, "in a mapping, got None"),
        ({"merger": {"class_path": "KMeansMerger", "init_args": None}}, "class_path and init_args"),
        ({"image_size": "big"}, "--image-size: expected int, but got 'big'"),
        ({"image_size": 0}, "positive integer, but got 0"),
        ({"resize": "stretch"}, r"expected 'fit' \| 'square' \| 'crop'"),
        ({"source": KMeansMerger()}, "instance of AttentionSource"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(UsageError, match=message):
        Segmenter.from_preset("affinity", **overrides)


@pytest.mark.parametrize("preset", [None, 3])
def test_what_is_no_preset(preset):
    with pytest.raises(UsageError, match="Expected a preset or its name"):
        Segmenter.from_preset(preset)


def test_an_unknown_preset():
    with pytest.raises(ComponentError, match="no preset called 'affinty'. Did you mean 'affinity'"):
        Segmenter.from_preset("affinty")


def test_a_preset_that_lacks_a_package_says_which_extra():
    needy = Preset(
        "Needs much.", part("AffinitySource"), requires=["not_a_module.at.all"], extra="kit[all]"
    )
    with pytest.raises(
        ComponentError, match=r"needs not_a_module.at.all: pip install 'kit\[all\]'"
    ):
        Segmenter.from_preset(needy)
    assert not Preset("Needs little.", part("AffinitySource"), requires=["torch.nn"]).missing()


def test_a_preset_and_a_part_from_a_plugin(tmp_path, monkeypatch, photo):
    preset = """
        from diffsegkit import Preset
        from diffsegkit.presets.preset import part
        mine = Preset("Mine.", part("AffinitySource", cells=[8]), merger=part("WholeImage", factor=2))
    """
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "whole", MERGER, [("mergers", "WholeImage = whole:WholeImage")])
    install(tmp_path, "mine", preset, [("presets", "mine = mine:mine")])
    try:
        segmenter = Segmenter.from_preset("mine", image_size=64)
        assert segmenter.merger.factor == 2
        [result] = segmenter(torch.from_numpy(photo).permute(2, 0, 1))
        assert result.num_segments == 1
    finally:
        forget("whole", "mine")
