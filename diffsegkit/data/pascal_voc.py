"""PASCAL VOC 2012."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import read_lines
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record


class PascalVOC(SegmentationDataModule):
    """PASCAL VOC 2012: 20 classes and the background, class 0. Borders (255) are ignored.

    Args:
        root: The folder that holds ``VOCdevkit``, or ``VOCdevkit`` or ``VOC2012`` itself.
        split: ``"val"``, ``"train"`` or ``"trainval"``.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("pascal_voc").classes
    background = 0
    splits: ClassVar[dict[str, int]] = {"val": 1449, "train": 1464, "trainval": 2913}
    layout = """
VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg
VOCdevkit/VOC2012/SegmentationClass/2007_000033.png
VOCdevkit/VOC2012/ImageSets/Segmentation/SPLIT.txt
"""
    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "val",
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

    @property
    def mapping(self) -> ClassMapping:
        """The palette's indices, which are the classes."""
        return builtin_mapping("pascal_voc")

    def find_records(self) -> Iterable[Record]:
        """The ids that the split's list names."""
        prefix = next(
            (each for each in ("VOCdevkit/VOC2012", "VOC2012") if (self.root / each).is_dir()), "."
        )
        images = self.folder(f"{prefix}/JPEGImages")
        labels = self.folder(f"{prefix}/SegmentationClass")
        listed = self.root / prefix / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        if not listed.is_file():
            raise self.absent(f"list 'ImageSets/Segmentation/{self.split}.txt'")
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}.png",))
            for identity in read_lines(listed)
        ]
