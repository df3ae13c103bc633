"""Label images, mappings, and the files that mappings are written in."""

import json

import numpy as np
import pytest
from PIL import Image

from diffsegkit.data import IGNORE, ClassMapping
from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.coco_pixel_maps import curated_ids
from diffsegkit.data.label_image import read_label_image
from diffsegkit.data.mapping_file import read_mapping
from diffsegkit.errors import DatasetError, ImageError
from tests.data.shared import shared

GREY = np.array([[0, 7, 255], [3, 3, 200]], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "RGB", "RGBA"])
def test_every_kind_of_label_image(tmp_path, mode):
    path = tmp_path / "label.png"
    stored = GREY.astype(np.uint16) * 257 if mode == "I;16" else GREY
    if mode == "1":
        stored = GREY > 3
    if mode in ("RGB", "RGBA"):
        stored = np.stack([GREY, GREY // 2, GREY // 3], axis=-1)
    image = Image.fromarray(stored)
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    if mode == "RGBA":
        image = image.convert("RGBA")
    image.save(path)
    np.testing.assert_array_equal(read_label_image(path), stored)


def test_what_is_no_label_image(tmp_path):
    with pytest.raises(ImageError, match="no label image .*none.png"):
        read_label_image(tmp_path / "none.png")
    damaged = tmp_path / "damaged.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:900])
    with pytest.raises(ImageError, match=r"damaged\.png' is damaged or no image .*copy it again"):
        read_label_image(damaged)
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "clear.png")
    with pytest.raises(ImageError, match="its mode is RGBA"):
        read_label_image(tmp_path / "clear.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="its mode is F"):
        read_label_image(tmp_path / "float.tif")


def test_unknown_values_are_named(tmp_path):
    mapping = ClassMapping(("a",), {0: 0, 7: IGNORE})
    with pytest.raises(DatasetError, match=r"some\.png' holds values .*: 3, 200, 255\."):
        mapping.apply(GREY, tmp_path / "some.png")
    many = np.arange(100, dtype=np.uint8)[None]
    with pytest.raises(DatasetError, match=r": 1, 2, 3, 4, 5, 6, 8, 9 and 90 more\."):
        mapping.apply(many, tmp_path / "some.png")
    lenient = ClassMapping(("a",), {0: 0}, ignore_unlisted=True)
    assert lenient.apply(GREY, tmp_path).tolist() == [[0, -1, -1], [-1, -1, -1]]


def test_colours(tmp_path):
    mapping = ClassMapping(("a", "b"), {}, {0xFF0000: 0, 0x00008E: 1})
    coloured = np.array([[[255, 0, 0], [0, 0, 142]]], dtype=np.uint8)
    assert mapping.apply(coloured, tmp_path).tolist() == [[0, 1]]
    with pytest.raises(DatasetError, match="holds colours .*: #00ff00"):
        mapping.apply(coloured[..., [1, 0, 1]][:, :1], tmp_path)
    with pytest.raises(DatasetError, match=r"holds values \(0, 3, 7.*no values are mapped"):
        mapping.apply(GREY, tmp_path)
    with pytest.raises(DatasetError, match="no colours are mapped"):
        ClassMapping(("a",), {0: 0}).apply(coloured, tmp_path)
    grey_as_colours = np.repeat(GREY[..., None], 3, axis=-1)
    by_value = ClassMapping(("a",), {0: 0}, ignore_unlisted=True)
    assert by_value.apply(grey_as_colours, tmp_path)[0, 0] == 0


def test_a_digest_sees_every_part():
    one = ClassMapping(("a", "b"), {0: 0, 1: 1})
    others = [
        ClassMapping(("a", "c"), {0: 0, 1: 1}),
        ClassMapping(("a", "b"), {0: 0, 1: 0}),
        ClassMapping(("a", "b"), {0: 0, 1: 1}, {1: 1}),
        ClassMapping(("a", "b"), {0: 0, 1: 1}, ignore_unlisted=True),
    ]
    assert one.digest() == ClassMapping(("a", "b"), {1: 1, 0: 0}).digest()
    assert len({each.digest() for each in (one, *others)}) == 5


WRITTEN = {
    "names.json": '["road", "car"]',
    "names.yaml": "[road, car]",
    "names.csv": "road\ncar\n",
    "full.yaml": 'classes: [road, car]\n0: road\n1: 1\n"#00008e": car\n255: ignore\nunlisted: ignore',
    "full.json": '{"classes": ["road", "car"], "0": "road", "1": 1, "#00008E": "car", "255": -1, "unlisted": "ignore"}',
    "lines.csv": "value,class\n0,road\n1,car\n#00008e,car\n255,ignore\nunlisted,ignore\n",
    "lines.yml": '0: road\n1: car\n"#00008e": car\n255: ignore\nunlisted: ignore',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_files(tmp_path, name):
    (tmp_path / name).write_text(WRITTEN[name])
    mapping = read_mapping(tmp_path / name)
    assert mapping.classes == ("road", "car")
    if name.startswith("names"):
        assert mapping == ClassMapping(("road", "car"), {0: 0, 1: 1})
    else:
        assert mapping == ClassMapping(("road", "car"), {0: 0, 1: 1, 255: -1}, {0x8E: 1}, True)


def test_indices_name_themselves(tmp_path):
    (tmp_path / "a.csv").write_text("10,0\n20,2\n30,-1\n")
    assert read_mapping(tmp_path / "a.csv") == ClassMapping(("0", "1", "2"), {10: 0, 20: 2, 30: -1})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "to be a file named .json, .yaml, .yml or .csv"),
        ("a.json", "{", "cannot be read"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.csv", "1,2\n1,2,3\n", "a value and a class in each line"),
        ("a.json", "3", "to hold a list of class names, or a class for each value"),
        ("a.json", "[1, 2]", "to hold names of classes"),
        ("a.json", '{"0": "a", "unlisted": "drop"}', "to be 'ignore' or 'error'"),
        ("a.json", '{"classes": "a", "0": 0}', "`classes` .* to be a list of names"),
        ("a.json", '{"red": 0}', "an entry 'red'"),
        ("a.json", '{"-1": 0}', "an entry '-1'"),
        ("a.json", '{"#12345": 0}', "an entry '#12345'"),
        ("a.json", '{"0": "a", "1": 1}', "some classes by name and others by index"),
        ("a.json", '{"classes": ["road"], "0": "raod"}', "did you mean 'road'"),
        ("a.json", '{"classes": ["road"], "0": 1}', "a class 1, but there are 1 classes"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_mapping(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_mapping(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "classes", "values"),
    [
        ("coco_stuff27", 27, 183),
        ("coco_panoptic27", 27, 134),
        ("coco_object", 81, 172),
        ("cityscapes27", 27, 34),
        ("pascal_voc", 21, 22),
        ("pascal_context59", 59, 59),
        ("ade20k", 150, 151),
        ("camvid", 11, 12),
    ],
)
def test_the_mappings_of_the_package(name, classes, values):
    mapping = builtin_mapping(name)
    assert len(mapping.classes) == len(set(mapping.classes)) == classes
    assert len(mapping.values) == values
    assert set(mapping.values.values()) - {IGNORE} == set(range(classes))


def test_the_curated_list():
    assert len(curated_ids()) == len(set(curated_ids())) == 2175
    assert curated_ids()[0] == "000000000139"
    path = shared("labelmaps", "cocostuff27_val2017_curated_ids.txt")
    assert curated_ids() == path.read_text().split()


def test_the_mappings_agree_with_their_sources():
    stuff = json.loads(shared("labelmaps", "cocostuff182_to_27.json").read_text())
    expected = {each["label_png_value"]: each["coarse_index"] for each in stuff["fine"]}
    assert builtin_mapping("coco_stuff27").values == {**expected, 255: IGNORE}
    assert list(builtin_mapping("coco_stuff27").classes) == stuff["coarse_names"]
    panoptic = json.loads(shared("labelmaps", "coco_panoptic133_to_27.json").read_text())
    expected = {each["panoptic_id"]: each["coarse_index"] for each in panoptic["categories"]}
    assert builtin_mapping("coco_panoptic27").values == {0: IGNORE, **expected}
    cities = json.loads(shared("labelmaps", "cityscapes_to_27.json").read_text())
    expected = {each["id"]: each["index27"] for each in cities["labels"] if each["id"] >= 0}
    assert builtin_mapping("cityscapes27").values == expected
    assert list(builtin_mapping("cityscapes27").classes) == cities["names27"]
