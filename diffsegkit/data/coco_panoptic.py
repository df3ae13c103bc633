"""COCO's panoptic labels, as 27 classes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import list_files
from diffsegkit.data.label_image import read_label_image
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record
from diffsegkit.errors import DatasetError, ImageError


class COCOPanoptic27(SegmentationDataModule):
    """COCO's panoptic labels joined to the 27 classes of COCO-Stuff-27.

    For those who have the panoptic labels at hand. About 10 % of the pixels are unlabelled, and
    ignored, so its figures are not comparable with those of :class:`COCOStuff27`.

    Args:
        root: The folder that holds ``val2017`` and ``annotations``.
        split: ``"val2017"`` or ``"train2017"``.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("coco_panoptic27").classes
    splits: ClassVar[dict[str, int]] = {"val2017": 5000, "train2017": 118287}
    layout = """
SPLIT/000000000139.jpg                          from SPLIT.zip
annotations/panoptic_SPLIT.json                 from panoptic_annotations_trainval2017.zip
annotations/panoptic_SPLIT/000000000139.png     from panoptic_SPLIT.zip, which is in that archive
"""
    homepage = "https://cocodataset.org/#download"

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "val2017",
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
        self._segments: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    @property
    def mapping(self) -> ClassMapping:
        """From panoptic categories to 27 classes."""
        return builtin_mapping("coco_panoptic27")

    def find_records(self) -> Iterable[Record]:
        """Every image, label image and entry of the JSON file."""
        images = self.folder(self.split, f"images/{self.split}")
        labels = self.folder(f"annotations/panoptic_{self.split}")
        self._segments = self._read_segments()
        found = {*list_files(images, {".jpg"}), *list_files(labels, {".png"}), *self._segments}
        return [
            Record(identity, images / f"{identity}.jpg", (labels / f"{identity}.png",))
            for identity in found
        ]

    def read_annotations(self, record: Record) -> tuple[Tensor, ...]:
        """From segment to category to class.

        Args:
            record: What :meth:`find_records` gave.

        Returns:
            One ``(H, W)`` int64.

        Raises:
            ImageError: If the label image cannot be read.
            DatasetError: If it holds segments that the JSON file does not have.
        """
        [path] = record.annotations
        colours = read_label_image(path)
        if colours.ndim != 3:
            raise ImageError(f"Expected {str(path)!r} to be an RGB image of segment ids.")
        if record.id not in self._segments:
            raise DatasetError(f"{str(self._json)!r} has no annotation of {path.name!r}.")
        red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
        # Segment 0 is what nobody labelled.
        known, categories = self._segments[record.id]
        segments, inverse = np.unique(red + 256 * green + 65536 * blue, return_inverse=True)
        unknown = np.setdiff1d(segments, [0, *known]).tolist()
        if unknown:
            raise DatasetError(
                f"The label image {str(path)!r} holds segments that {str(self._json)!r} does not "
                f"have: {', '.join(map(str, unknown[:8]))}."
            )
        category_of = {0: 0, **dict(zip(known.tolist(), categories.tolist(), strict=True))}
        by_segment = np.array([category_of[segment] for segment in segments.tolist()])
        classes = self.mapping.apply(by_segment, self._json)
        return (classes[torch.from_numpy(inverse.reshape(colours.shape[:2]))],)

    @property
    def _json(self) -> Path:
        return self.root / "annotations" / f"panoptic_{self.split}.json"

    def _read_segments(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Segment ids and their categories, by sample id; arrays, for train2017 has a million."""
        if not self._json.is_file():
            raise self.absent(f"file 'annotations/{self._json.name}'")
        try:
            annotations: list[dict[str, Any]] = json.loads(self._json.read_bytes())["annotations"]
            return {
                Path(annotation["file_name"]).stem: (
                    np.array([each["id"] for each in annotation["segments_info"]], dtype=np.int64),
                    np.array(
                        [each["category_id"] for each in annotation["segments_info"]],
                        dtype=np.int64,
                    ),
                )
                for annotation in annotations
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{str(self._json)!r} is damaged or not COCO's panoptic JSON "
                f"({type(error).__name__}: {error}); copy it again."
            ) from error
