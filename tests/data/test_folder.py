"""One's own images and labels."""

import numpy as np
import pytest
from PIL import Image

from diffsegkit.data import IGNORE, Folder
from diffsegkit.errors import DatasetError, ImageError, UsageError
from tests.data.layouts import SIZE, folder, quarters, remove, write_image, write_label


@pytest.fixture
def root(tmp_path):
    return folder(tmp_path)


def corner_classes(sample):
    [labels] = sample.annotations
    return [int(labels[row, column]) for row in (0, -1) for column in (0, -1)]


def test_values_are_classes(root):
    module = Folder("images", "labels", root=root)
    assert module.ids == ["one", "sub/one", "sub/two"]
    assert corner_classes(module.load(0)) == [0, 1, 2, IGNORE]
    assert module.num_classes == 3
    assert list(module.class_names) == ["0", "1", "2"]
    # A subset has the classes of the whole.
    write_label(root / "labels" / "sub" / "two.png", quarters([0, 3, 4, 5]))
    subset = Folder("images", "labels", root=root, limit=1)
    subset.setup()
    assert subset.num_classes == 6
    assert Folder(root / "images", root / "labels", num_classes=9).load(0).id == "one"


def test_without_root_and_without_labels(root, monkeypatch):
    monkeypatch.chdir(root)
    module = Folder("images")
    assert module.ids == ["one", "sub/one", "sub/two"]
    assert module.load(0).annotations == ()
    assert module.num_classes == 0
    assert len(list(module.predict_dataloader())) == 3
    with pytest.raises(DatasetError, match="no ground truth for 'one'"):
        module.test_dataloader()
    assert module.check() == []


def test_a_mapping(root):
    (root / "classes.yaml").write_text("0: road\n1: car\n2: ignore\n255: ignore\n")
    module = Folder("images", "labels", root=root, mapping=root / "classes.yaml")
    assert list(module.class_names) == ["road", "car"]
    assert corner_classes(module.load(0)) == [0, 1, IGNORE, IGNORE]
    assert module.describe()["mapping_sha256"]
    (root / "classes.yaml").write_text("0: road\n1: car\n255: ignore\n")
    with pytest.raises(DatasetError, match="holds values that stand for no class: 2"):
        Folder("images", "labels", root=root, mapping=root / "classes.yaml").load(0)
    swapped = Folder(
        "images", "labels", root=root, mapping=root / "classes.yaml", class_names=["car", "road"]
    )
    assert list(swapped.class_names) == ["car", "road"]
    assert swapped.mapping.values == {0: 1, 1: 0, 255: IGNORE}


def test_colours(root):
    colours = np.array([[255, 0, 0], [0, 0, 142], [0, 0, 0]], dtype=np.uint8)
    for path in root.glob("labels/**/*.png"):
        Image.fromarray(colours[quarters([0, 1, 2, 2])]).save(path)
    with pytest.raises(DatasetError, match="is coloured; give a `mapping`"):
        Folder("images", "labels", root=root).setup()
    (root / "classes.csv").write_text("#ff0000,road\n#00008e,car\nunlisted,ignore\n")
    module = Folder("images", "labels", root=root, mapping=root / "classes.csv")
    assert corner_classes(module.load(0)) == [0, 1, IGNORE, IGNORE]


@pytest.mark.parametrize("kind", ["palette", "16 bits", "grey as RGB"])
def test_kinds_of_label_images(root, kind):
    for path in root.glob("labels/**/*.png"):
        labels = quarters([0, 1, 300 if kind == "16 bits" else 2, 255])
        if kind == "palette":
            write_label(path, labels, palette=bytes(range(256)) * 3)
        elif kind == "16 bits":
            write_label(path, labels, dtype=np.uint16)
        else:
            write_label(path, np.stack([labels] * 3, axis=-1))
    number = 301 if kind == "16 bits" else None
    module = Folder("images", "labels", root=root, num_classes=number)
    assert corner_classes(module.load(0)) == [0, 1, 300 if kind == "16 bits" else 2, IGNORE]


def test_two_images_of_one_id(root):
    write_image(root / "images" / "one.png", quarters([0, 0, 0, 0]))
    with pytest.raises(DatasetError, match=r"one\.jpg' and .*one\.png' have one id, 'one'"):
        Folder("images", "labels", root=root).setup()


def test_what_does_not_count(root):
    (root / "images" / "notes.txt").write_text("no image")
    (root / "images" / "._one.jpg").write_text("no image")
    write_image(root / "images" / ".thumbnails" / "one.jpg", quarters([0, 0, 0, 0]))
    assert Folder("images", "labels", root=root).ids == ["one", "sub/one", "sub/two"]


def test_incomplete(root):
    remove(root / "labels", "two.png")
    with pytest.raises(DatasetError, match=r"1 of the 3 images .*two\.jpg' has no label"):
        Folder("images", "labels", root=root).setup()
    remove(root / "images", "one.jpg")
    assert len(Folder("images", "labels", root=root).check()) == 2
    with pytest.raises(DatasetError, match=r"there is no folder '.*masks'"):
        Folder("images", "masks", root=root).setup()
    (root / "empty").mkdir()
    with pytest.raises(DatasetError, match="there is no image"):
        Folder("empty", root=root).setup()


def test_labels_without_any_class(root):
    for path in root.glob("labels/**/*.png"):
        write_label(path, np.full(SIZE, 255))
    with pytest.raises(DatasetError, match="hold no class"):
        Folder("images", "labels", root=root).setup()


def test_damaged_labels_do_not_stop_a_check(root):
    (root / "labels" / "one.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"one\.png"):
        Folder("images", "labels", root=root).setup()
    [problem] = Folder("images", "labels", root=root).check()
    assert "one.png" in problem


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 0}, "`num_classes` to be at least 1"),
        ({"num_classes": 3, "class_names": ["a"]}, "the number of class names, 1, but got 3"),
        ({"num_classes": 3, "background": 3}, "`background` to be a class from 0 to 2"),
        ({"background": -1}, "`background`"),
        ({"mapping": "none.json"}, "cannot be read"),
    ],
)
def test_arguments(root, wrong, message):
    with pytest.raises(UsageError, match=message):
        Folder("images", "labels", root=root, **wrong)


def test_a_class_that_is_not_there(root):
    with pytest.raises(DatasetError, match="holds the value 2, but there are 2 classes"):
        Folder("images", "labels", root=root, class_names=["a", "b"]).load(0)


def masks(root, values):
    for number in range(3):
        stored = quarters(values, number)
        write_image(root / "images" / f"{number}.png", stored)
        write_label(root / "labels" / f"{number}.png", stored)
    return {"images": root / "images", "labels": root / "labels"}


def test_masks_of_0_and_255_are_no_data_set_of_one_class(tmp_path):
    where = masks(tmp_path, [0, 255, 255, 0])
    with pytest.raises(
        DatasetError, match=r"hold 0 and 255 alone.*'0: background' and '255: object'"
    ):
        Folder(**where).setup()
    (tmp_path / "classes.yaml").write_text("0: background\n255: object\n")
    data = Folder(**where, mapping=tmp_path / "classes.yaml")
    data.setup()
    assert list(data.class_names) == ["background", "object"]
    assert data.load(0).annotations[0].unique().tolist() == [0, 1]


def test_values_that_can_hardly_be_classes_are_said(tmp_path):
    where = masks(tmp_path, [0, 100, 200, 0])
    with pytest.warns(UserWarning, match="there are 201 classes, of which 198 never occur"):
        Folder(**where).setup()
