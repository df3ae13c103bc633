"""ADE20K, as the scene-parsing challenge has it."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import list_files
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record


class ADE20K(SegmentationDataModule):
    """ADE20K with the 150 classes of the scene-parsing challenge; all else (0) is ignored.

    Args:
        root: The folder that holds ``ADEChallengeData2016``, or that folder itself.
        split: ``"validation"`` or ``"training"``.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("ade20k").classes
    splits: ClassVar[dict[str, int]] = {"validation": 2000, "training": 20210}
    layout = """
ADEChallengeData2016/images/SPLIT/ADE_val_00000001.jpg
ADEChallengeData2016/annotations/SPLIT/ADE_val_00000001.png
"""
    homepage = "http://sceneparsing.csail.mit.edu"

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "validation",
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
        """From values 1 to 150 to classes 0 to 149."""
        return builtin_mapping("ade20k")

    def find_records(self) -> Iterable[Record]:
        """Every image and label."""
        top = "ADEChallengeData2016"
        images = self.folder(f"{top}/images/{self.split}", f"images/{self.split}")
        labels = self.folder(f"{top}/annotations/{self.split}", f"annotations/{self.split}")
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}.png",))
            for identity in {*list_files(images, {".jpg"}), *list_files(labels, {".png"})}
        ]
