"""COCO images with the pixel maps of COCO-Stuff."""

from abc import ABC
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from diffsegkit.data.builtin_mapping import LABELMAPS
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import list_files
from diffsegkit.data.record import Record
from diffsegkit.errors import UsageError


class COCOPixelMaps(SegmentationDataModule, ABC):
    """What is common to the data sets that use COCO-Stuff's pixel maps.

    Args:
        root: The folder that holds ``val2017`` and the pixel maps.
        split: ``"val2017"`` or ``"train2017"``.
        curated: Whether only the 2175 curated images of val2017 count.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    splits: ClassVar[dict[str, int]] = {"val2017": 5000, "train2017": 118287}
    layout = """
SPLIT/000000000139.jpg                                 from SPLIT.zip
stuffthingmaps_trainval2017/SPLIT/000000000139.png     from stuffthingmaps_trainval2017.zip
    (annotations/SPLIT and annotation_SPLIT will do as well)
"""
    homepage = "https://github.com/nightrome/cocostuff#downloads"

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "val2017",
        curated: bool = True,
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
        if curated and split != "val2017":
            raise UsageError(
                f"There is a curated list of val2017, but none of {split}; give curated=false, or "
                "a list of your own as `ids`."
            )
        self.curated = curated

    @property
    def expected(self) -> int:
        """2175 curated images, or those of the split."""
        return len(curated_ids()) if self.curated else self.splits[self.split]

    def describe(self) -> dict[str, Any]:
        """What every data set says, and whether only curated images count."""
        return {**super().describe(), "curated": self.curated}

    def find_records(self) -> Iterable[Record]:
        """The curated ids, or every image and pixel map."""
        images = self.folder(self.split, f"images/{self.split}")
        labels = self._labels(images)
        if self.curated:
            found: Iterable[str] = curated_ids()
        else:
            # MMSegmentation puts converted maps with longer names beside the originals.
            found = {
                identity
                for identity in (
                    *list_files(images, {".jpg"}),
                    *list_files(labels, {".png"}),
                )
                if identity.isdigit()
            }
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}.png",))
            for identity in found
        ]

    def _labels(self, images: Path) -> Path:
        # The archive holds the split's folder at its top: unpacked beside the images, both mix.
        if next(images.glob("*.png"), None) is not None:
            return images
        return self.folder(
            f"stuffthingmaps_trainval2017/{self.split}",
            f"stuffthingmaps/{self.split}",
            f"annotations/{self.split}",
            f"annotation_{self.split}",
        )


def curated_ids() -> list[str]:
    """The ids of the 2175 curated images of val2017, as files are named.

    Example:
        >>> curated_ids()[0]
        '000000000139'
    """
    numbers = (LABELMAPS / "coco_stuff27_val2017.txt").read_text().split()
    return [number.zfill(12) for number in numbers]
