"""Each data set in its official layout: which class every pixel is, and what an incomplete copy says."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.io import savemat

from diffsegkit import registry
from diffsegkit.data import BSDS500, IGNORE, COCOPanoptic27, COCOStuff27, PascalContext, PascalVOC
from diffsegkit.errors import DatasetError, ImageError, UsageError
from tests.data import layouts
from tests.data.layouts import EXTRA, LAYOUTS, SIZE, quarters, remove, write_label, write_lines

# The classes of the quarters of the first sample, from the top left, row by row: by hand.
CLASSES = {
    "ADE20K": [IGNORE, 0, 1, 149],
    "COCOObject": [1, 10, 0, 0],  # person, traffic light, grass, unlabelled
    "COCOPanoptic27": [9, 9, 22, IGNORE],  # person-things twice, plant-stuff
    "COCOStuff27": [9, 8, 22, IGNORE],  # person-things, outdoor-things, plant-stuff
    "CamVid": [0, 1, 10, IGNORE],
    "Cityscapes27": [IGNORE, 0, 16, 26],
    "PascalContext": [1, 59, 0, 0],
    "PascalVOC": [0, 1, 20, IGNORE],
}
NUM_CLASSES = {"ADE20K": 150, "BSDS500": 0, "COCOObject": 81, "COCOPanoptic27": 27, "COCOStuff27": 27,
               "CamVid": 11, "Cityscapes27": 27, "PascalContext": 60, "PascalVOC": 21}  # fmt: skip
OFFICIAL = {"ADE20K": 2000, "BSDS500": 100, "COCOObject": 2175, "COCOPanoptic27": 5000,
            "COCOStuff27": 2175, "CamVid": 101, "Cityscapes27": 500, "PascalContext": 5105,
            "PascalVOC": 1449}  # fmt: skip
IDS = {
    "ADE20K": "ADE_val_00000001",
    "BSDS500": "101085",
    "COCOObject": "000000000139",
    "COCOPanoptic27": "000000000139",
    "COCOStuff27": "000000000139",
    "CamVid": "0016E5_07959",
    "Cityscapes27": "frankfurt_000000_000294",
    "PascalContext": "2008_000002",
    "PascalVOC": "2007_000033",
}


def make(name, root, **arguments):
    factory = registry.load("datamodules", name)
    return factory(LAYOUTS[name](root), **{**EXTRA.get(name, {}), **arguments})


def corners(labels):
    """The labels of the four quarters, each of which must be of one."""
    height, width = labels.shape[0] // 2, labels.shape[1] // 2
    found = [
        labels[top : top + height, left : left + width].unique().tolist()
        for top in (0, height)
        for left in (0, width)
    ]
    assert all(len(values) == 1 for values in found)
    return [value for [value] in found]


@pytest.mark.parametrize("name", CLASSES)
def test_every_pixel(tmp_path, name):
    module = make(name, tmp_path)
    assert len(module.ids) == 3
    for index in range(3):
        [labels] = module.load(index).annotations
        assert labels.dtype == torch.int64
        assert corners(labels) == np.roll(CLASSES[name], index).tolist()


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_data_set_says_of_itself(tmp_path, name):
    module = make(name, tmp_path)
    assert module.num_classes == NUM_CLASSES[name]
    assert module.expected == OFFICIAL[name]
    assert module.ids[0] == IDS[name]
    assert module.ids == sorted(module.ids)
    assert module.protocol == ("region" if name == "BSDS500" else "image-matched")
    assert module.background == (
        0 if name in ("COCOObject", "PascalContext", "PascalVOC") else None
    )
    sample = module.load(0)
    assert sample.id == IDS[name]
    assert sample.path.is_file()
    assert sample.image.shape == (3, *SIZE)
    assert sample.image.dtype == torch.uint8


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_copy_has_no_problem_but_its_size(tmp_path, name):
    problems = make(name, tmp_path, limit=3).check()
    assert problems == []
    if name not in EXTRA:
        [problem] = make(name, tmp_path).check()
        assert f"officially has {OFFICIAL[name]} images, but 3 were found" in problem


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder(tmp_path, name):
    module = registry.load("datamodules", name)(tmp_path)
    with pytest.raises(DatasetError) as raised:
        module.setup()
    for part in ("there is no ", repr(str(tmp_path)), "Expected below `root`:\n", module.homepage):
        assert part in str(raised.value)
    assert module.check() == [str(raised.value)]
    with pytest.raises(DatasetError, match="no folder '.*none'"):
        registry.load("datamodules", name)(tmp_path / "none").setup()


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_copy_without_some_files(tmp_path, name, kind):
    module = make(name, tmp_path, limit=3)
    record = module._found()[1]
    path = record.image if kind == "image" else record.annotations[0]
    path.unlink()
    with pytest.raises(DatasetError, match="1 of the 3 images .* are incomplete") as raised:
        make_again(module).setup()
    assert str(path) in str(raised.value)
    assert "`ids`; `limit=1` takes those before" in str(raised.value)
    [problem] = make_again(module).check()
    assert repr(str(path)) in problem
    # What is there can be evaluated.
    complete = [identity for identity in module.ids if identity != record.id]
    write_lines(tmp_path / "ids.txt", complete)
    assert make_again(module, ids=tmp_path / "ids.txt").ids == complete
    assert make_again(module, limit=1).ids == complete[:1]


def make_again(module, **arguments):
    extra = {} if "ids" in arguments else {"limit": 3}
    return type(module)(module.root, **{**extra, **arguments})


@pytest.mark.parametrize("name", LAYOUTS)
def test_damaged_files_are_named(tmp_path, name):
    module = make(name, tmp_path, limit=3)
    first, second = (module._found()[index] for index in range(2))
    first.image.write_bytes(first.image.read_bytes()[:200])
    second.annotations[0].write_bytes(b"\x89PNG nothing")
    with pytest.raises(ImageError, match=first.image.name):
        module.load(0)
    with pytest.raises(ImageError, match=second.annotations[0].name):
        module.load(1)
    problems = module.check()
    assert len(problems) == 2
    assert first.image.name in problems[0]
    assert second.annotations[0].name in problems[1]


@pytest.mark.parametrize("name", ["ADE20K", "COCOStuff27", "CamVid", "Cityscapes27", "PascalVOC"])
def test_values_that_stand_for_no_class(tmp_path, name):
    module = make(name, tmp_path, limit=3)
    path = module._found()[0].annotations[0]
    write_label(path, quarters([1, 200, 201, 1]))
    with pytest.raises(DatasetError, match=r"stand for no class: 200, 201\.") as raised:
        module.load(0)
    assert str(path) in str(raised.value)


def test_splits():
    with pytest.raises(UsageError, match="PascalVOC has no split 'vall'; did you mean 'val'"):
        PascalVOC("anywhere", split="vall")
    with pytest.raises(UsageError, match="none of train2017; give curated=false"):
        COCOStuff27("anywhere", split="train2017")


@pytest.mark.parametrize("labels", ["annotations", "annotation_val2017", "beside"])
def test_where_coco_stuff_may_be(tmp_path, labels):
    layouts.coco_stuff27(tmp_path)
    maps = tmp_path / "stuffthingmaps_trainval2017" / "val2017"
    if labels == "beside":
        for path in maps.iterdir():
            shutil.move(path, tmp_path / "val2017" / path.name)
        shutil.rmtree(maps.parent)
    elif labels == "annotations":
        maps.parent.rename(tmp_path / "annotations")
    else:
        maps.rename(tmp_path / labels)
    whole = COCOStuff27(tmp_path, curated=False)
    assert whole.expected == 5000
    assert len(whole.ids) == 3
    assert corners(whole.load(0).annotations[0]) == CLASSES["COCOStuff27"]


def test_the_curated_list_of_coco(tmp_path):
    layouts.coco_pixel_maps(tmp_path, ids=[*layouts.COCO_IDS, "000000000285"])
    with pytest.raises(DatasetError, match="2172 of the 2175 images"):
        COCOStuff27(tmp_path).setup()
    assert len(COCOStuff27(tmp_path).check()) == 2172
    assert COCOStuff27(tmp_path, limit=3).describe()["curated"] is True
    # MMSegmentation's converted maps lie beside the originals.
    maps = tmp_path / "stuffthingmaps_trainval2017" / "val2017"
    write_label(maps / "000000000139_labelTrainIds.png", quarters([0, 0, 0, 0]))
    assert len(COCOStuff27(tmp_path, curated=False).ids) == 4
    train = layouts.coco_pixel_maps(tmp_path, split="train2017")
    assert len(COCOStuff27(train, split="train2017", curated=False).ids) == 3


def test_coco_panoptic(tmp_path):
    root = layouts.coco_panoptic27(tmp_path)
    path = root / "annotations" / "panoptic_val2017.json"
    whole = path.read_text()
    path.write_text(whole.replace('"id": 70000', '"id": 70001'))
    with pytest.raises(DatasetError, match=r"139\.png' holds segments that .* not have: 70000\."):
        COCOPanoptic27(root).load(0)
    path.write_text(whole.replace('"category_id": 193', '"category_id": 183'))
    with pytest.raises(
        DatasetError, match=r"panoptic_val2017\.json' holds values .* no class: 183"
    ):
        COCOPanoptic27(root).load(0)
    path.write_text(whole.replace("000000000139.png", "000000000140.png"))
    with pytest.raises(DatasetError, match="'000000000140' has neither an image"):
        COCOPanoptic27(root).setup()
    [_, absent, neither] = COCOPanoptic27(root).check()
    assert "no annotation of '000000000139.png'" in absent
    assert "'000000000140' has neither" in neither
    for damaged in (whole[:100], "[]", '{"annotations": [{}]}'):
        path.write_text(damaged)
        with pytest.raises(DatasetError, match="damaged or not COCO's panoptic JSON"):
            COCOPanoptic27(root).setup()
    path.unlink()
    with pytest.raises(DatasetError, match="no file 'annotations/panoptic_val2017.json'"):
        COCOPanoptic27(root).setup()


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_where_voc_may_be(tmp_path, below):
    root = layouts.pascal_voc(tmp_path) / below
    module = PascalVOC(root)
    assert module.ids == ["2007_000033", "2007_000042", "2007_000061"]
    remove(root, "val.txt")
    with pytest.raises(DatasetError, match="no list 'ImageSets/Segmentation/val.txt'"):
        PascalVOC(root).setup()


@pytest.mark.parametrize("below", ["", "data", ".."])
def test_where_bsds_may_be(tmp_path, below):
    root = layouts.bsds500(tmp_path / "BSDS500") / below
    assert BSDS500(root).ids == ["101085", "3096", "42012"]


def test_bsds_has_all_annotators(tmp_path):
    sample = make("BSDS500", tmp_path).load(1)
    assert sample.id == "3096"
    assert [corners(each) for each in sample.annotations] == [[1, 2, 3, 4], [1, 2, 1, 2]]
    assert all(each.dtype == torch.int64 for each in sample.annotations)


@pytest.mark.parametrize(
    "content",
    [{"other": 1}, {"groundTruth": np.zeros((2, 2))}, {"groundTruth": np.empty((1, 0), object)}],
)
def test_bsds_with_another_mat(tmp_path, content):
    module = make("BSDS500", tmp_path)
    savemat(module._found()[0].annotations[0], content)
    with pytest.raises(ImageError, match=r"101085\.mat"):
        module.load(0)


@pytest.mark.parametrize("write", [layouts.pascal_context, layouts.pascal_context_converted])
@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2010"])
def test_pascal_context(tmp_path, write, below):
    root = write(tmp_path) / below
    if below and (tmp_path / "trainval").exists():
        (tmp_path / "trainval").rename(root / "trainval")
    with_background = PascalContext(root)
    assert corners(with_background.load(0).annotations[0]) == [1, 59, 0, 0]
    assert with_background.class_names[:2] == ("background", "aeroplane")
    without = PascalContext(root, background_class=False)
    assert corners(without.load(0).annotations[0]) == [0, 58, IGNORE, IGNORE]
    assert (without.num_classes, without.background) == (59, None)
    assert without.class_names[58] == "wood"


def test_the_categories_of_pascal_context_are_compared(tmp_path):
    root = layouts.pascal_context(tmp_path)
    mapping = PascalContext(root).mapping
    names = {v: mapping.classes[c] for v, c in mapping.values.items() if c > 0}
    # As published, some have other names in the list of the 59.
    lines = [f"{value}: {name.replace('table', 'diningtable')}" for value, name in names.items()]
    write_lines(root / "labels.txt", lines)
    PascalContext(root).setup()
    write_lines(root / "labels.txt", [line.replace("2: aeroplane", "2: airship") for line in lines])
    with pytest.raises(
        DatasetError, match="category 2 'airship', but PASCAL Context .* 'aeroplane'"
    ):
        PascalContext(root).setup()
    savemat(root / "trainval" / "2008_000002.mat", {"LabelMap": np.zeros((4, 4, 4))})
    remove(root, "labels.txt")
    with pytest.raises(ImageError, match="to be a matrix of integers"):
        PascalContext(root).load(0)


def test_camvid_with_a_broken_list(tmp_path):
    module = make("CamVid", tmp_path)
    write_lines(tmp_path / "CamVid" / "val.txt", ["val/one.png"])
    with pytest.raises(DatasetError, match="to hold the paths of an image and its label"):
        type(module)(module.root).setup()


def test_all_registered_data_sets_are_tested():
    names = registry.list_components("datamodules")
    assert set(LAYOUTS) | {"Folder"} == set(names)
    assert all(first < second for first, second in pairwise(names))
