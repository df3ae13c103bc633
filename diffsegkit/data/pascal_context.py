"""PASCAL Context."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import read_lines
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.mat_file import read_mat
from diffsegkit.data.record import Record
from diffsegkit.data.sample import IGNORE
from diffsegkit.errors import DatasetError, ImageError

_CATEGORIES = 459
_OTHER_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class PascalContext(SegmentationDataModule):
    """PASCAL Context: its 59 frequent classes, and all others of the 459 as background.

    Takes the labels as published (``trainval/*.mat``), or as MMSegmentation converts them
    (``SegmentationClassContext/*.png``). The classes have MMSegmentation's order, which is
    alphabetical, either way.

    Args:
        root: The folder that holds ``VOCdevkit``, or ``VOCdevkit`` or ``VOC2010`` itself; the
            published labels are in it or in ``VOC2010``.
        split: ``"val"`` or ``"train"``.
        background_class: Whether the background is a class, number 0 of 60; otherwise it is
            ignored, and there are 59.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    splits: ClassVar[dict[str, int]] = {"val": 5105, "train": 4998}
    layout = """
VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg
VOCdevkit/VOC2010/ImageSets/Main/SPLIT.txt
trainval/2008_000002.mat     the labels as published, and labels.txt beside the folder
or, as MMSegmentation converts them:
VOCdevkit/VOC2010/SegmentationClassContext/2008_000002.png
VOCdevkit/VOC2010/ImageSets/SegmentationContext/SPLIT.txt
"""
    homepage = (
        "https://cs.stanford.edu/~roozbeh/pascal-context (labels) and "
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010 (images)"
    )

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "val",
        background_class: bool = True,
        crop: int | None = None,
        ids: str | Path | None = None,
        limit: int | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            root,
            split=split,
            crop=crop,
            ids=ids,
            limit=limit,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        names = builtin_mapping("pascal_context59").classes
        self.class_names = ("background", *names) if background_class else names
        self.background = 0 if background_class else None
        self._converted = False

    @property
    def mapping(self) -> ClassMapping:
        """From the values of the label files that there are to classes."""
        other, first = (IGNORE, 0) if self.background is None else (0, 1)
        if self._converted:
            frequent = {index + 1: index for index in range(59)}
            values = {0: other}
        else:
            frequent = dict(builtin_mapping("pascal_context59").values)
            values = dict.fromkeys(range(_CATEGORIES + 1), other)
        values |= {value: index + first for value, index in frequent.items()}
        return ClassMapping(tuple(self.class_names), values)

    def find_records(self) -> Iterable[Record]:
        """The ids that the split's list names."""
        prefix = next(
            (each for each in ("VOCdevkit/VOC2010", "VOC2010") if (self.root / each).is_dir()), "."
        )
        images = self.folder(f"{prefix}/JPEGImages")
        labels = self.folder(f"{prefix}/SegmentationClassContext", f"{prefix}/trainval", "trainval")
        self._converted = labels.name == "SegmentationClassContext"
        suffix = ".png" if self._converted else ".mat"
        if not self._converted:
            _check_categories(labels.parent / "labels.txt")
        lists = self.root / prefix / "ImageSets"
        candidates = [
            lists / kind / f"{self.split}.txt" for kind in ("SegmentationContext", "Main")
        ]
        listed = next((path for path in candidates if path.is_file()), None)
        if listed is None:
            raise self.absent(f"list 'ImageSets/SegmentationContext/{self.split}.txt'")
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}{suffix}",))
            for identity in read_lines(listed)
        ]

    def read_annotations(self, record: Record) -> tuple[Tensor, ...]:
        """The published labels, or the converted ones."""
        if self._converted:
            return super().read_annotations(record)
        [path] = record.annotations
        stored = read_mat(path, "LabelMap")
        if stored.ndim != 2 or stored.dtype.kind not in "iu":
            raise ImageError(
                f"Expected 'LabelMap' in {str(path)!r} to be a matrix of integers, but its shape "
                f"is {stored.shape} and its type {stored.dtype}."
            )
        return (self.mapping.apply(stored.astype(np.int64), path),)


def _check_categories(path: Path) -> None:
    """Be sure that the numbers of the 459 categories are those known here."""
    if not path.is_file():
        return
    names = {}
    for line in read_lines(path):
        number, _, name = line.partition(":")
        names[number.strip()] = name.replace(" ", "")
    mapping = builtin_mapping("pascal_context59")
    for category, index in mapping.values.items():
        found = names.get(str(category), "nothing")
        if _OTHER_NAMES.get(found, found) != mapping.classes[index]:
            raise DatasetError(
                f"{str(path)!r} calls category {category} {found!r}, but PASCAL Context calls it "
                f"{mapping.classes[index]!r}."
            )
