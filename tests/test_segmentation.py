"""The result: COCO annotations, files, gaps."""

import json
import os
import stat

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from diffsegkit import Proposals, Segmentation
from diffsegkit.segmentation import close_gaps


def segmentation(labels, **options):
    labels = torch.as_tensor(labels)
    number = int(labels.max()) + 1
    proposals = Proposals(torch.full((number, 1, 1), 1.0))
    return Segmentation(labels, proposals, tuple(labels.shape), **options)


label_maps = st.tuples(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 10**6)
)


@given(label_maps)
@settings(max_examples=80, deadline=None)
def test_coco_annotations_decode_to_the_label_map(case):
    height, width, number, seed = case
    raw = torch.randint(number, (height, width), generator=torch.Generator().manual_seed(seed))
    labels = torch.unique(raw, return_inverse=True)[1]
    annotations = segmentation(labels).to_coco(image_id=7, first_id=40)
    assert len(annotations) == labels.max() + 1
    for label, annotation in enumerate(annotations):
        mask = (labels == label).numpy()
        decoded = coco_mask.decode(annotation["segmentation"])
        assert np.array_equal(decoded, mask)
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
        assert annotation["area"] == mask.sum()
        assert (annotation["id"], annotation["image_id"]) == (40 + label, 7)
        # The very bytes that pycocotools itself makes of the mask.
        reference = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert annotation["segmentation"]["counts"] == reference["counts"].decode()
        assert annotation["segmentation"]["size"] == reference["size"]
    json.dumps(annotations)


def test_saving(tmp_path, photo):
    labels = np.zeros((90, 120), dtype=np.int64)
    labels[:, 60:] = 1
    result = segmentation(labels, times={"merge": 1.23456})
    written = result.save(tmp_path / "new" / "folder", "a.b", image=photo, metadata={"x": [1]})
    assert [path.name for path in written] == ["a.b_labels.png", "a.b_overlay.png", "a.b.json"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        p.name for p in written
    )
    with Image.open(written[0]) as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), labels)
    with Image.open(written[1]) as overlay:
        assert overlay.size == (120, 90)
    record = json.loads(written[2].read_text())
    assert record["image_size"] == {"height": 90, "width": 120}
    assert record["num_segments"] == 2
    assert record["times_ms"] == {"merge": 1.235}
    assert record["x"] == [1]
    assert record["segments"][1]["bbox"] == [60, 0, 60, 90]
    assert set(record["segments"][0]) == {"id", "area", "bbox", "segmentation"}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(written[0].stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(("number", "mode"), [(256, "L"), (257, "I;16"), (3000, "I;16")])
def test_bits_of_the_label_map(tmp_path, number, mode):
    labels = torch.arange(number).repeat(2).reshape(2, number)
    path = segmentation(labels).save(tmp_path, "many")[0]
    with Image.open(path) as picture:
        assert picture.mode == mode
        assert np.array_equal(np.asarray(picture), labels.numpy())


def test_more_segments_than_a_file_holds(tmp_path):
    with pytest.raises(ValueError, match="up to 65536 segments.*there are 65537"):
        segmentation(torch.arange(65537)[None]).save(tmp_path, "too_many")
    assert not list(tmp_path.iterdir())


def test_without_an_image_there_is_no_overlay(tmp_path):
    written = segmentation(torch.zeros(3, 3, dtype=torch.int64)).save(tmp_path, "a")
    assert [path.name for path in written] == ["a_labels.png", "a.json"]


def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path, monkeypatch):
    result = segmentation(torch.zeros(3, 3, dtype=torch.int64))
    result.save(tmp_path, "a")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(self, file, **options):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        segmentation(torch.arange(4).reshape(2, 2)).save(tmp_path, "a")
    with pytest.raises(TypeError, match="not JSON serializable"):
        result.save(tmp_path, "a", metadata={"x": object()})
    with pytest.raises(ValueError, match="the image that was segmented"):
        result.save(tmp_path, "a", image=torch.zeros(3, 5, 5))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_crops_are_recorded_and_drawn(tmp_path, photo):
    result = Segmentation(
        torch.zeros(90, 90, dtype=torch.int64), None, (90, 120),
        crop_box=(15, 0, 105, 90),
    )  # fmt: skip
    assert result.overlay(photo).size == (90, 90)
    record = json.loads(result.save(tmp_path, "a", image=photo)[-1].read_text())
    assert record["crop_box"] == [15, 0, 105, 90]


def test_gaps_are_closed_in_order():
    proposals = Proposals(torch.eye(5).reshape(5, 1, 5))
    labels, kept = close_gaps(torch.tensor([[4, 1], [1, 3]]), proposals)
    assert labels.tolist() == [[2, 0], [0, 1]]
    assert torch.equal(kept.maps, proposals.maps[[1, 3, 4]])
    whole = torch.arange(5)[None]
    labels, kept = close_gaps(whole, proposals)
    assert labels is whole
    assert kept is proposals
