"""What all the assigners have in common: edges, symmetries, batches, odd shapes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffsegkit import Assigner, Proposals, Segmenter, list_components
from diffsegkit.assigners import ArgmaxAssigner, RefiningAssigner
from diffsegkit.configuration import preset_configuration
from diffsegkit.errors import UsageError
from diffsegkit_refine import (
    BilateralAssigner,
    ConvCRFAssigner,
    GuidedFilterAssigner,
    PAMRAssigner,
    SuperpixelAssigner,
)
from diffsegkit_refine.presets import REFINED_DINOV2S
from refine_cases import coarse, disc, iou, random_proposals, seen

CLASSES = [
    PAMRAssigner,
    GuidedFilterAssigner,
    BilateralAssigner,
    ConvCRFAssigner,
    SuperpixelAssigner,
]
# Felzenszwalb's superpixels depend on the order of the pixels, as ties between edges have one.
SYMMETRIC = CLASSES[:-1]


@pytest.mark.parametrize("assigner", CLASSES[:-1])
@pytest.mark.parametrize("size", [(96, 144), (150, 90)])
def test_edges_snap_to_the_image(assigner, size):
    """Segments of a grid, four pixels off on both axes: 0.8 of intersection over union to 0.99."""
    image, truth = disc(size)
    proposals = coarse(truth, (size[0] // 8, size[1] // 8))
    [before] = ArgmaxAssigner()([proposals], size)
    [after] = assigner()([proposals], size, aggregated=seen(image[None]))
    assert iou(before, truth) < 0.85
    assert iou(after, truth) > 0.99


def test_superpixels_snap_what_is_nearly_right():
    """Those that lie within the band of wrong labels stay wrong, if nothing else comes first."""
    image, truth = disc()
    proposals, size = coarse(truth), (96, 144)
    [before] = ArgmaxAssigner()([proposals], size)
    [alone] = SuperpixelAssigner()([proposals], size, aggregated=seen(image[None]))
    assert iou(alone, truth) > iou(before, truth) + 0.1
    nested = SuperpixelAssigner(assigner=PAMRAssigner())
    [labels] = nested([proposals], size, aggregated=seen(image[None]))
    assert iou(labels, truth) > 0.99
    # Without noise each side is one superpixel.
    clean = seen(disc(noise=0)[0][None])
    [labels] = SuperpixelAssigner(sigma=0.1)([proposals], size, aggregated=clean)
    assert torch.equal(labels, truth)


@pytest.mark.parametrize("assigner", CLASSES)
def test_a_large_photo_is_refined_small(assigner):
    """Eight times the size that the source saw: the edge is right to a pixel of what it saw."""
    image, truth = disc((96, 144))
    large = torch.nn.functional.interpolate(truth[None, None].float(), scale_factor=8)[0, 0].long()
    nested = {} if assigner is BilateralAssigner else {"assigner": PAMRAssigner()}
    labels = assigner(**nested)([coarse(truth)], large.shape, aggregated=seen(image[None]))
    assert labels.shape == (1, *large.shape)
    assert iou(labels[0], large) > 0.97


@pytest.mark.parametrize("assigner", CLASSES)
def test_permuting_proposals_permutes_labels(assigner, generator):
    proposals = random_proposals(5, (6, 7), generator)
    order = torch.tensor([3, 0, 4, 1, 2])
    given = seen(torch.rand(1, 3, 48, 56, generator=generator))
    labels = assigner()([proposals], (48, 56), aggregated=given)
    permuted = assigner()([proposals.keep(order)], (48, 56), aggregated=given)
    # Sums are in another order, so that what is nearly equal may fall the other way.
    assert (order[permuted] == labels).double().mean() > 0.998
    assert len(labels.unique()) > 1


@pytest.mark.parametrize("assigner", SYMMETRIC)
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_a_mirrored_image_has_mirrored_segments(assigner, axes, generator):
    proposals = random_proposals(3, (6, 7), generator)
    mirrored = Proposals(proposals.maps.flip(axes))
    image = torch.rand(3, 48, 63, generator=generator)
    labels = assigner()([proposals], (48, 63), aggregated=seen(image[None]))
    found = assigner()([mirrored], (48, 63), aggregated=seen(image.flip(axes)[None]))
    assert (found.flip(axes) == labels).double().mean() > 0.998
    assert (found == labels).double().mean() < 0.9


@pytest.mark.parametrize("assigner", SYMMETRIC)
def test_a_turned_image_has_turned_segments(assigner, generator):
    proposals = random_proposals(3, (6, 7), generator)
    image = torch.rand(3, 48, 56, generator=generator)
    labels = assigner()([proposals], (48, 56), aggregated=seen(image[None]))[0]
    turned = Proposals(proposals.maps.mT)
    found = assigner()([turned], (56, 48), aggregated=seen(image.mT[None]))[0]
    assert (found.mT == labels).double().mean() > 0.998


@pytest.mark.parametrize("assigner", CLASSES)
def test_a_flat_image_keeps_a_symmetric_mask_symmetric(assigner):
    masks = torch.zeros(2, 8, 10)
    masks[1, 2:6, 3:7] = 1
    masks[0] = 1 - masks[1]
    proposals = Proposals(masks / masks.sum((1, 2), keepdim=True), scores=masks)
    flat = seen(torch.full((1, 3, 64, 80), 0.6))
    [labels] = assigner()([proposals], (64, 80), aggregated=flat)
    assert torch.equal(labels, labels.flip(0))
    assert torch.equal(labels, labels.flip(1))


@pytest.mark.parametrize("assigner", CLASSES)
def test_a_batch_is_a_loop(assigner, generator):
    proposals = [random_proposals(number, (5, 4), generator) for number in (2, 1, 6)]
    images = torch.rand(3, 3, 40, 32, generator=generator)
    together = assigner()(proposals, (40, 32), aggregated=seen(images))
    for index, own in enumerate(proposals):
        alone = assigner()([own], (40, 32), aggregated=seen(images[index : index + 1]))
        assert torch.equal(together[index], alone[0])
        again = assigner()([own], (40, 32), aggregated=seen(images[index : index + 1]))
        assert torch.equal(alone, again)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    image=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    number=st.integers(1, 5),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    which=st.sampled_from(CLASSES),
)
@settings(max_examples=120, deadline=None)
def test_any_shape(size, image, grid, number, dtype, which):
    generator = torch.Generator().manual_seed(size[0] * 41 + size[1])
    proposals = random_proposals(number, grid, generator)
    images = torch.rand(1, 3, *image, generator=generator).to(dtype)
    labels = which()([proposals], size, aggregated=seen(images))
    assert labels.shape == (1, *size)
    assert labels.dtype == torch.int64
    assert 0 <= labels.min() <= labels.max() < number


@pytest.mark.parametrize("assigner", CLASSES)
def test_the_precision_of_the_images_hardly_matters(assigner):
    image, truth = disc((64, 96))
    proposals = coarse(truth)
    labels = assigner()([proposals], truth.shape, aggregated=seen(image[None]))
    for dtype in (torch.float16, torch.float64):
        other = assigner()([proposals], truth.shape, aggregated=seen(image[None].to(dtype)))
        assert (other == labels).double().mean() > 0.99


@pytest.mark.parametrize("assigner", CLASSES)
def test_images_are_needed(assigner, generator):
    with pytest.raises(UsageError, match=f"{assigner.__name__} looks at the image"):
        assigner()([random_proposals(2, (2, 2), generator)], (4, 4))


@pytest.mark.parametrize(
    ("assigner", "option", "value", "message"),
    [
        (PAMRAssigner, "iterations", -1, "`iterations` to be a whole number, at least 0, but got -1"),
        (PAMRAssigner, "dilations", [1, 0], "`dilations` to be a whole number, at least 1, but got 0"),
        (PAMRAssigner, "dilations", [], "`dilations` to hold at least one distance"),
        (PAMRAssigner, "max_side", 0, "`max_side` to be an integer, at least 1, but got 0"),
        (GuidedFilterAssigner, "radius", 0, "`radius` to be a whole number, at least 1, but got 0"),
        (GuidedFilterAssigner, "epsilon", 0.0, "`epsilon` to be above 0, but got 0.0"),
        (GuidedFilterAssigner, "epsilon", float("nan"), "`epsilon` to be above 0, but got nan"),
        (BilateralAssigner, "radius", 1.5, "`radius` to be a whole number, at least 1, but got 1.5"),
        (BilateralAssigner, "sigma_space", -1.0, "`sigma_space` to be above 0, but got -1.0"),
        (BilateralAssigner, "sigma_colour", float("inf"), "`sigma_colour` to be above 0, but got inf"),
        (BilateralAssigner, "max_side", 0, "`max_side` to be a whole number, at least 1, but got 0"),
        (ConvCRFAssigner, "iterations", -1, "`iterations` to be a whole number, at least 0"),
        (ConvCRFAssigner, "radius", 0, "`radius` to be a whole number, at least 1, but got 0"),
        (ConvCRFAssigner, "dilation", 0, "`dilation` to be a whole number, at least 1, but got 0"),
        (ConvCRFAssigner, "sigma_space", 0.0, "`sigma_space` to be above 0, but got 0.0"),
        (ConvCRFAssigner, "sigma_colour", 0.0, "`sigma_colour` to be above 0, but got 0.0"),
        (ConvCRFAssigner, "appearance", -1.0, "`appearance` to be at least 0, but got -1.0"),
        (ConvCRFAssigner, "smoothness", -1.0, "`smoothness` to be at least 0, but got -1.0"),
        (ConvCRFAssigner, "confidence", 0.5, "`confidence` to be above 0.5 and below 1, but got 0.5"),
        (ConvCRFAssigner, "confidence", 1.0, "`confidence` to be above 0.5 and below 1, but got 1.0"),
        (SuperpixelAssigner, "scale", 0.0, "`scale` to be above 0, but got 0.0"),
        (SuperpixelAssigner, "sigma", -0.1, "`sigma` to be above 0, but got -0.1"),
        (SuperpixelAssigner, "min_size", 0, "`min_size` to be a whole number, at least 1, but got 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(assigner, option, value, message):
    with pytest.raises(ValueError, match=message):
        assigner(**{option: value})


def test_all_are_registered_under_their_names():
    names = {assigner.__name__ for assigner in CLASSES}
    assert names <= {*list_components("assigners")}
    assert "refined-dinov2s" in list_components("presets")
    assert all(issubclass(own, Assigner) for own in CLASSES)
    refining = {own for own in CLASSES if issubclass(own, RefiningAssigner)}
    assert refining == {*CLASSES} - {BilateralAssigner}


def test_the_preset_is_the_core_s_with_another_assigner():
    pytest.importorskip("transformers")
    from diffsegkit.presets import DIFFSEG_DINOV2S

    found, core = preset_configuration(REFINED_DINOV2S), preset_configuration(DIFFSEG_DINOV2S)
    assert found.pop("assigner")["class_path"].endswith("PAMRAssigner")
    core.pop("assigner")
    assert found == core


def test_assigners_within_assigners_by_name():
    inner = {"class_path": "GuidedFilterAssigner", "init_args": {"radius": 5}}
    outer = {"class_path": "PAMRAssigner", "init_args": {"iterations": 3, "assigner": inner}}
    segmenter = Segmenter.from_preset("affinity", assigner=outer)
    assert segmenter.assigner.iterations == 3
    assert isinstance(segmenter.assigner.assigner, GuidedFilterAssigner)
    assert segmenter.assigner.assigner.radius == 5
    photo = (disc((96, 144))[0] * 255).byte()
    [segmentation] = segmenter(photo)
    assert segmentation.num_segments == 2


def test_the_code_of_the_readme():
    """The nested refiner segments a photo; the refiner of one's own finds an edge by colour."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    image, truth = disc((96, 144))
    [segmentation] = names["segmenter"]((image * 255).byte())
    assert max(iou(segmentation.labels, truth), iou(1 - segmentation.labels, truth)) > 0.99
    labels = names["LikeTheMean"]()([coarse(truth)], (96, 144), aggregated=seen(image[None]))
    assert iou(labels[0], truth) > 0.99


def test_the_sweep_of_the_readme():
    """Each of its variants can be built, and is of the class that its name says."""
    sweep = yaml.safe_load((Path(__file__).parents[1] / "assigners.yaml").read_text())
    built = []
    for name, variant in sweep["sweep"].items():
        segmenter = Segmenter.from_preset("affinity", **variant)
        assert type(segmenter.assigner).__name__.removesuffix("Assigner").lower() in name
        built.append(type(segmenter.assigner))
    assert {ArgmaxAssigner, *CLASSES} <= {*built}


def test_on_the_command_line(tmp_path):
    image, truth = disc((96, 144), noise=0)
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    options = "--assigner PAMRAssigner --assigner.assigner GuidedFilterAssigner --assigner.assigner.radius 4"
    command = [sys.executable, "-m", "diffsegkit", "segment", "photo.png", "--out", "out"]
    run = subprocess.run([*command, *options.split()], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "out" / "photo_labels.png") as picture:
        labels = torch.from_numpy(np.array(picture))
    assert max(iou(labels, truth), iou(1 - labels, truth)) > 0.99
    record = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert "GuidedFilterAssigner" in json.dumps(record)
    wrong = [*command, "--assigner", "PAMRAssigner", "--assigner.dilations", "[0]"]
    run = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert "`dilations` to be a whole number, at least 1, but got 0" in run.stderr


SHARED = Path(__file__).resolve().parents[3].parent / "shared"
WEIGHTS, BSDS500 = SHARED / "models" / "dinov2-small", SHARED / "data" / "BSDS500"


@pytest.mark.skipif(
    not (WEIGHTS.is_dir() and BSDS500.is_dir()),
    reason="weights of DINOv2 small and BSDS500 are not beside this repository",
)
def test_photos_gain_covering_and_boundaries():
    pytest.importorskip("transformers")
    from diffsegkit import data as datasets
    from diffsegkit.metrics import BoundaryFMeasure, SegmentationCovering

    data = datasets.BSDS500(BSDS500)
    data.setup()
    samples = [data.load(index) for index in range(0, 100, 20)]
    segmenter = Segmenter.from_preset("refined-dinov2s", source={"model": str(WEIGHTS)})
    methods = {type(own).__name__: own for own in (ArgmaxAssigner(), *(own() for own in CLASSES))}
    metrics = {name: (SegmentationCovering(), BoundaryFMeasure()) for name in methods}
    for sample in samples:
        aggregated = segmenter.aggregate(segmenter.extract(sample.image))
        proposals = segmenter.merge(aggregated)
        truth = torch.stack([*sample.annotations])
        for name, assigner in methods.items():
            labels = assigner(proposals, tuple(truth.shape[1:]), aggregated=aggregated)
            for metric in metrics[name]:
                metric.update(labels, [truth])
    scores = {name: [float(metric.compute()) for metric in own] for name, own in metrics.items()}
    plain = scores.pop("ArgmaxAssigner")
    for name, (covered, matched) in scores.items():
        assert covered > plain[0] + 0.005, (name, scores, plain)
        assert matched > plain[1] + 0.1, (name, scores, plain)
