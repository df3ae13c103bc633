"""BSDS500."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import list_files
from diffsegkit.data.mat_file import read_mat
from diffsegkit.data.record import Record
from diffsegkit.errors import ImageError


class BSDS500(SegmentationDataModule):
    """The Berkeley segmentation benchmark: photos divided into regions by 4 to 9 people each.

    Regions have no class; each annotation of a sample is one person's, with ids from 1.

    Args:
        root: The folder that holds ``data`` (``BSDS500`` in the archive), or one above.
        split: ``"val"``, ``"test"`` or ``"train"``.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    protocol = "region"
    splits: ClassVar[dict[str, int]] = {"val": 100, "test": 200, "train": 200}
    layout = """
data/images/SPLIT/3096.jpg
data/groundTruth/SPLIT/3096.mat
"""
    homepage = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html"

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

    def find_records(self) -> Iterable[Record]:
        """Every image and ground truth."""
        tops = ("data", "BSDS500/data", "BSR/BSDS500/data", ".")
        images = self.folder(*(f"{top}/images/{self.split}" for top in tops))
        labels = self.folder(*(f"{top}/groundTruth/{self.split}" for top in tops))
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}.mat",))
            for identity in {*list_files(images, {".jpg"}), *list_files(labels, {".mat"})}
        ]

    def read_annotations(self, record: Record) -> tuple[Tensor, ...]:
        """The regions of all annotators."""
        [path] = record.annotations
        truth = read_mat(path, "groundTruth")
        try:
            # A cell array of structs: each is itself an array of one.
            regions = [cell["Segmentation"].item() for cell in truth.flat]
            annotations = tuple(torch.from_numpy(each.astype("int64")) for each in regions)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ImageError(
                f"Expected 'groundTruth' in {str(path)!r} to be a cell array of structs with a "
                "'Segmentation' each, as BSDS500 has it."
            ) from error
        if not annotations or any(each.ndim != 2 for each in annotations):
            raise ImageError(f"The label file {str(path)!r} holds no segmentation.")
        return annotations
