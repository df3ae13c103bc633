"""Presets on vision transformers: whole with a tiny model, and as good as said with the real one."""

import pytest

from diffsegkit import Segmenter
from diffsegkit.data import BSDS500, COCOPanoptic27
from diffsegkit.metrics import ImageMatchedAccuracy, ImageMatchedMeanIoU, SegmentationCovering
from diffsegkit.presets import DIFFSEG_DINOV2B, DIFFSEG_DINOV2S, DIFFSEG_DINOV3S
from diffsegkit.sources import VisionTransformerSource
from tests.data.shared import shared
from tests.sources.shared_models import shared_model
from tests.sources.tiny_transformers import build, save


@pytest.mark.parametrize(
    ("preset", "family", "patch"),
    [
        (DIFFSEG_DINOV2S, "dinov2", 14),
        (DIFFSEG_DINOV2B, "dinov2", 14),
        (DIFFSEG_DINOV3S, "dinov3_vit", 16),
    ],
)
def test_whole_with_a_tiny_model(preset, family, patch, tmp_path, photo):
    model = build(family, num_hidden_layers=12, patch_size=patch, image_size=4 * patch)
    folder = save(model, tmp_path)
    segmenter = Segmenter.from_preset(preset, source={"model": str(folder)})
    assert isinstance(segmenter.source, VisionTransformerSource)
    assert segmenter.source.layers == tuple(range(4, 12))
    assert segmenter.source.facet == "kk"
    # The longer side of the photo is a whole number of patches as it stands.
    assert segmenter.image_size % patch == 0
    [segmentation] = segmenter(photo)
    assert segmentation.labels.shape == (90, 120)
    assert max(segmentation.proposals.grid) == segmenter.image_size // patch
    assert preset.missing() == []


def real_segmenter():
    model = str(shared_model("dinov2-small"))
    return Segmenter.from_preset(DIFFSEG_DINOV2S, source={"model": model})


def test_a_cat_is_a_few_segments():
    from skimage.data import chelsea

    [segmentation] = real_segmenter()(chelsea())
    assert 2 <= segmentation.num_segments <= 6
    # Both eyes are of one segment, and what is left and right of the head is not.
    labels = segmentation.labels
    assert labels[95, 155] == labels[115, 315]
    assert labels[95, 155] not in (labels[60, 20], labels[100, 430])


@pytest.mark.slow
def test_covering_of_bsds500():
    data, segmenter, covering = BSDS500(shared("BSDS500")), real_segmenter(), SegmentationCovering()
    for index in range(len(data.ids)):
        sample = data.load(index)
        [segmentation] = segmenter(sample.image)
        covering.update([segmentation.labels], [sample.annotations])
    assert covering.compute() >= 0.53


@pytest.mark.slow
@pytest.mark.parametrize("crop", [512, None])
def test_matching_of_coco(crop):
    data = COCOPanoptic27(shared("coco"), split="train2017", crop=crop)
    segmenter = real_segmenter()
    metrics = ImageMatchedMeanIoU(27, variant="original"), ImageMatchedAccuracy(27)
    for index in range(len(data.ids)):
        sample = data.load(index)
        [segmentation] = segmenter(sample.image)
        for metric in metrics:
            metric.update([segmentation.labels], list(sample.annotations))
    miou, accuracy = (float(metric.compute()) for metric in metrics)
    assert miou >= 0.42
    assert accuracy >= 0.67
