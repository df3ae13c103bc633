"""Tiny copies of the data sets in their official layouts: three images of 48 x 64 pixels each.

Each function writes one below a folder and returns the root to give to the data module. The
images' colours follow the labels, so that something can be found in them.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (48, 64)
COCO_IDS = ("000000000139", "000000000724", "000000000785")  # the first of the curated list
EXTRA = {"COCOObject": {"limit": 3}, "COCOStuff27": {"limit": 3}}
"""What a data module must be given besides the root: the curated list is longer."""


def quarters(values, turn=0):
    """``(48, 64)``: one value in each quarter, from the top left, row by row."""
    values = np.roll(np.asarray(values), turn)
    return values.reshape(2, 2).repeat(SIZE[0] // 2, axis=0).repeat(SIZE[1] // 2, axis=1)


def picture(labels):
    """``(H, W, 3)`` uint8: a colour for each label, with a little noise."""
    seed = np.random.default_rng(0)
    colours = seed.integers(0, 240, (1024, 3))
    noise = seed.integers(0, 15, (*labels.shape, 3))
    return (colours[np.asarray(labels, dtype=np.int64) % 1024] + noise).astype(np.uint8)


def write_image(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(labels)).save(
        path, **({"quality": 95} if path.suffix == ".jpg" else {})
    )


def write_label(path, labels, palette=None, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels, dtype=dtype))
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def coco_pixel_maps(root, split="val2017", labels="stuffthingmaps_trainval2017", ids=COCO_IDS):
    """COCO with COCO-Stuff's maps: a person, a street sign's neighbour, grass, and unlabelled."""
    for turn, identity in enumerate(ids):
        stored = quarters([0, 9, 123, 255], turn)
        write_image(root / split / f"{identity}.jpg", stored)
        write_label(root / labels / split / f"{identity}.png", stored)
    return root


def coco_stuff27(root):
    return coco_pixel_maps(root)


def coco_object(root):
    return coco_pixel_maps(root)


def coco_panoptic27(root, split="val2017"):
    """Two people as two segments, merged grass, and nothing."""
    segments = [(8345037, 1), (70000, 1), (255, 193)]
    colours = {
        identity: [identity % 256, identity // 256 % 256, identity // 65536]
        for identity, _ in segments
    }
    annotations = []
    for turn, name in enumerate(COCO_IDS):
        stored = quarters([8345037, 70000, 255, 0], turn)
        write_image(root / split / f"{name}.jpg", stored)
        rgb = np.array([[colours.get(int(value), [0, 0, 0]) for value in row] for row in stored])
        write_label(root / "annotations" / f"panoptic_{split}" / f"{name}.png", rgb)
        annotations.append(
            {
                "image_id": int(name),
                "file_name": f"{name}.png",
                "segments_info": [{"id": each, "category_id": kind} for each, kind in segments],
            }
        )
    path = root / "annotations" / f"panoptic_{split}.json"
    path.write_text(json.dumps({"images": [], "annotations": annotations, "categories": []}))
    return root


def cityscapes27(root, split="val"):
    """Void, road, sky and bicycle, in two cities."""
    stems = [
        "frankfurt/frankfurt_000000_000294",
        "frankfurt/frankfurt_000000_000576",
        "munster/munster_000000_000019",
    ]
    for turn, stem in enumerate(stems):
        stored = quarters([4, 7, 23, 33], turn)
        write_image(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", stored)
        write_label(root / "gtFine" / split / f"{stem}_gtFine_labelIds.png", stored)
        # What else the archive holds.
        write_label(
            root / "gtFine" / split / f"{stem}_gtFine_instanceIds.png", stored, dtype=np.uint16
        )
    return root


def pascal_voc(root, split="val"):
    """Background, aeroplane, tvmonitor and border, with the palette of the original."""
    top = root / "VOCdevkit" / "VOC2012"
    palette = np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes()
    ids = ["2007_000033", "2007_000042", "2007_000061"]
    for turn, identity in enumerate(ids):
        stored = quarters([0, 1, 20, 255], turn)
        write_image(top / "JPEGImages" / f"{identity}.jpg", stored)
        write_label(top / "SegmentationClass" / f"{identity}.png", stored, palette)
    write_image(top / "JPEGImages" / "2009_000001.jpg", stored)  # of another split
    write_lines(top / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
    return root


def pascal_context(root, split="val"):
    """As published: aeroplane, wood, an infrequent category, and nothing."""
    top = root / "VOCdevkit" / "VOC2010"
    ids = ["2008_000002", "2008_000003", "2008_000007"]
    (root / "trainval").mkdir(parents=True, exist_ok=True)
    for turn, identity in enumerate(ids):
        stored = quarters([2, 458, 1, 0], turn)
        write_image(top / "JPEGImages" / f"{identity}.jpg", stored)
        savemat(root / "trainval" / f"{identity}.mat", {"LabelMap": stored.astype(np.uint16)})
    write_lines(top / "ImageSets" / "Main" / f"{split}.txt", ids)
    return root


def pascal_context_converted(root, split="val"):
    """As MMSegmentation converts it: aeroplane, wood, background twice."""
    top = root / "VOCdevkit" / "VOC2010"
    ids = ["2008_000002", "2008_000003", "2008_000007"]
    for turn, identity in enumerate(ids):
        stored = quarters([1, 59, 0, 0], turn)
        write_image(top / "JPEGImages" / f"{identity}.jpg", stored)
        write_label(top / "SegmentationClassContext" / f"{identity}.png", stored)
    write_lines(top / "ImageSets" / "SegmentationContext" / f"{split}.txt", ids)
    return root


def ade20k(root, split="validation"):
    """Nothing, wall, building and flag."""
    top = root / "ADEChallengeData2016"
    for turn, number in enumerate((1, 2, 3)):
        stored = quarters([0, 1, 2, 150], turn)
        write_image(top / "images" / split / f"ADE_val_{number:08}.jpg", stored)
        write_label(top / "annotations" / split / f"ADE_val_{number:08}.png", stored)
    return root


def camvid(root, split="val"):
    """Sky, building, bicyclist and void."""
    top = root / "CamVid"
    stems = ["0016E5_07959", "0016E5_07961", "0016E5_07963"]
    for turn, stem in enumerate(stems):
        stored = quarters([0, 1, 10, 11], turn)
        write_image(top / split / f"{stem}.png", stored)
        write_label(top / f"{split}annot" / f"{stem}.png", stored)
    lines = [
        f"/SegNet/CamVid/{split}/{each}.png /SegNet/CamVid/{split}annot/{each}.png"
        for each in stems
    ]
    write_lines(top / f"{split}.txt", lines)
    return root


def bsds500(root, split="val"):
    """Two annotators: one saw four regions, the other two."""
    truth = root / "data" / "groundTruth" / split
    truth.mkdir(parents=True, exist_ok=True)
    for turn, identity in enumerate(("3096", "42012", "101085")):
        four = quarters([1, 2, 3, 4], turn).astype(np.uint16)
        two = quarters([1, 2, 1, 2], turn).astype(np.uint16)
        write_image(root / "data" / "images" / split / f"{identity}.jpg", four)
        cells = np.empty((1, 2), dtype=object)
        for index, regions in enumerate((four, two)):
            cells[0, index] = {"Segmentation": regions, "Boundaries": np.zeros(SIZE, np.uint8)}
        savemat(truth / f"{identity}.mat", {"groundTruth": cells})
    return root


def folder(root):
    """``images`` and ``labels``, with a folder in each; classes 0, 1, 2 and ignored."""
    for turn, stem in enumerate(("one", "sub/one", "sub/two")):
        stored = quarters([0, 1, 2, 255], turn)
        write_image(root / "images" / f"{stem}.jpg", stored)
        write_label(root / "labels" / f"{stem}.png", stored)
    return root


LAYOUTS = {
    "ADE20K": ade20k,
    "BSDS500": bsds500,
    "COCOObject": coco_object,
    "COCOPanoptic27": coco_panoptic27,
    "COCOStuff27": coco_stuff27,
    "CamVid": camvid,
    "Cityscapes27": cityscapes27,
    "PascalContext": pascal_context,
    "PascalVOC": pascal_voc,
}
"""The function that writes each data set whose data module takes a root."""


def remove(root, pattern, number=1):
    """Delete files, as an interrupted copy would have left them out."""
    for path in sorted(Path(root).rglob(pattern))[:number]:
        path.unlink()
