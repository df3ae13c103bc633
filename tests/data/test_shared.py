"""On real data, where it is."""

import numpy as np
from PIL import Image

from diffsegkit.data import BSDS500, CamVid, COCOPanoptic27
from tests.data.shared import shared


def test_panoptic_labels_become_the_27_classes():
    root = shared("coco")
    module = COCOPanoptic27(root, split="train2017")
    assert len(module.ids) == 100
    for index, identity in enumerate(module.ids):
        expected = np.asarray(Image.open(root / "stuff27_png" / "train2017" / f"{identity}.png"))
        expected = np.where(expected == 255, -1, expected.astype(np.int64))
        [found] = module.load(index).annotations
        np.testing.assert_array_equal(found.numpy(), expected, err_msg=identity)


def test_bsds500():
    module = BSDS500(shared("BSDS500"))
    assert module.check() == []
    assert len(module.ids) == 100
    annotators = [len(module.load(index).annotations) for index in range(100)]
    assert 4 <= min(annotators) <= max(annotators) <= 8


def test_camvid():
    module = CamVid(shared("CamVid"))
    assert module.check() == []
    assert len(module.ids) == 101
    sample = module.load(0)
    assert sample.image.shape == (3, 360, 480)
    assert set(sample.annotations[0].unique().tolist()) == set(range(-1, 11))
    # Sky is above the road, and brighter.
    sky, road = (
        sample.annotations[0] == module.class_names.index(name) for name in ("sky", "road")
    )
    assert sky.nonzero()[:, 0].float().mean() < road.nonzero()[:, 0].float().mean()
    assert sample.image[:, sky].float().mean() > sample.image[:, road].float().mean()
