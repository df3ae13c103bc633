"""Cityscapes-27."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import list_files
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record

_IMAGE = "_leftImg8bit"
_LABEL = "_gtFine_labelIds"


class Cityscapes27(SegmentationDataModule):
    """Cityscapes with 27 classes: label ids 7 to 33, all others ignored, as in PiCIE and DiffSeg.

    Args:
        root: The folder that holds ``leftImg8bit`` and ``gtFine``.
        split: ``"val"`` or ``"train"``.
        crop: Side in pixels to which the centre square is brought; published figures of DiffSeg
            have 512. Own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("cityscapes27").classes
    splits: ClassVar[dict[str, int]] = {"val": 500, "train": 2975}
    layout = """
leftImg8bit/SPLIT/frankfurt/frankfurt_000000_000294_leftImg8bit.png
gtFine/SPLIT/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png
"""
    homepage = "https://www.cityscapes-dataset.com/downloads"

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
        """From label ids to classes."""
        return builtin_mapping("cityscapes27")

    def find_records(self) -> Iterable[Record]:
        """Every image and label of every city."""
        images = self.folder(f"leftImg8bit/{self.split}")
        labels = self.folder(f"gtFine/{self.split}")
        # With the city's folder, so that both files of a record are known when one is missing.
        found = {
            *list_files(images, {".png"}, ending=_IMAGE, recursive=True),
            *list_files(labels, {".png"}, ending=_LABEL, recursive=True),
        }
        return [
            Record(
                Path(stem).name, images / f"{stem}{_IMAGE}.png", (labels / f"{stem}{_LABEL}.png",)
            )
            for stem in found
        ]
