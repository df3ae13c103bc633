"""Any folder of images, with or without a folder of label images."""

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.files import image_suffixes, list_files
from diffsegkit.data.label_image import read_label_image
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.mapping_file import read_mapping
from diffsegkit.data.record import Record
from diffsegkit.data.sample import IGNORE
from diffsegkit.errors import DatasetError, DiffSegKitError, UsageError

_LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})  # kinds without losses
_VOID = 255
_MAX_CLASSES = 2048  # without a mapping; 16-bit label images may hold anything


class Folder(SegmentationDataModule):
    """A folder of images, and one of label images of the same names.

    ``images/sub/one.jpg`` has the id ``sub/one`` and the label ``labels/sub/one.png``: grey of 8
    or 16 bits, with a palette, or coloured. Without ``labels``, it can be predicted on only.

    Without ``mapping``, the values of the label images are the classes, and 255 is ignored. A
    mapping is a JSON, YAML or CSV file: either a list of class names, whose positions are the
    values, or, for each value or colour, the class by name or index::

        classes: [road, car]       # optional: the order of the classes
        7: road
        "#00008e": car             # in YAML, a colour stands in quotes
        255: ignore
        unlisted: ignore           # optional: without this line, other values are an error

    In CSV each of these is a line such as ``7,road``.

    Args:
        images: The folder of images; folders in it count.
        labels: The folder of label images, the same way.
        root: What ``images`` and ``labels`` are relative to.
        mapping: A file that says which class each value is.
        class_names: Names of the classes, by index.
        num_classes: How many classes there are; by default, as many as are named, or else one
            more than the largest value in all labels, for which they are read once.
        background: Index of the background class, if there is one.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If arguments are out of their range or contradict one another.
        DatasetError: If the mapping cannot be read.
    """

    layout = """
images/**/NAME.jpg          any kind of image
labels/**/NAME.png          optional; 8 or 16 bits, palette or colours
"""

    def __init__(
        self,
        images: str | Path,
        labels: str | Path | None = None,
        *,
        root: str | Path = ".",
        mapping: str | Path | None = None,
        class_names: list[str] | None = None,
        num_classes: int | None = None,
        background: int | None = None,
        crop: int | None = None,
        ids: str | Path | None = None,
        limit: int | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            root,
            split="all",
            crop=crop,
            ids=ids,
            limit=limit,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.images = self.root / Path(images).expanduser()
        self.labels = None if labels is None else self.root / Path(labels).expanduser()
        self._mapping = None
        if mapping is not None:
            self._mapping = read_mapping(Path(mapping).expanduser(), class_names or ())
            class_names = list(self._mapping.classes)
        if class_names and num_classes not in (None, len(class_names)):
            raise UsageError(
                f"Expected argument `num_classes` to be the number of class names, "
                f"{len(class_names)}, but got {num_classes}."
            )
        if num_classes is not None and num_classes < 1:
            raise UsageError(
                f"Expected argument `num_classes` to be at least 1, but got {num_classes}."
            )
        self.class_names = class_names or [str(index) for index in range(num_classes or 0)]
        self.background = background
        if background is not None and not 0 <= background < (self.num_classes or background + 1):
            raise UsageError(
                f"Expected argument `background` to be a class from 0 to {self.num_classes - 1}, "
                f"but got {background}."
            )

    @property
    def mapping(self) -> ClassMapping | None:
        """The mapping that was given."""
        return self._mapping

    def find_records(self) -> Iterable[Record]:
        """Pair images and labels by their paths without suffix."""
        for folder in (self.images, self.labels):
            if folder is not None and not folder.is_dir():
                raise self.absent(f"folder {str(folder)!r}")
        images = list_files(self.images, image_suffixes(), recursive=True)
        if self.labels is None:
            return [Record(identity, path) for identity, path in images.items()]
        labels = list_files(self.labels, _LABEL_SUFFIXES, recursive=True)
        return [
            Record(
                identity,
                images.get(identity, self.images / f"{identity}.*"),
                (labels.get(identity, self.labels / f"{identity}.png"),),
            )
            for identity in images.keys() | labels.keys()
        ]

    def setup(self, stage: str | None = None) -> None:
        """Find the images and, unless it is known, how many classes there are."""
        self._refuse_lossy_labels()
        super().setup(stage)
        if self.labels is None or self.class_names:
            return
        # Over all labels, so that a subset has the same classes.
        paths = [record.annotations[0] for record in self._all_records()]
        values: set[int] = set()
        for path in paths:
            if path.is_file():
                values.update(self._read_classes(path).unique().tolist())  # type: ignore[no-untyped-call]
        self.class_names = self._classes_of(values)

    def check(self, *, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Look at every file, and whether there are classes to be found in the labels."""
        problems = super().check(progress=progress)
        try:
            copy.copy(self).setup()
        except DiffSegKitError as error:
            if not problems:
                problems.append(str(error))
        return problems

    def _refuse_lossy_labels(self) -> None:
        """Labels as JPEG would otherwise be reported as missing."""
        if self.labels is None or not self.labels.is_dir():
            return
        jpegs = sorted(path for path in self.labels.rglob("*.jp*g") if path.name[0] != ".")
        if jpegs and not list_files(self.labels, _LABEL_SUFFIXES, recursive=True):
            raise DatasetError(
                f"The labels in {str(self.labels)!r} are JPEGs, such as {jpegs[0].name!r}, in "
                "which classes blur into each other; export them anew as PNG."
            )

    def _classes_of(self, values: set[int]) -> list[str]:
        """The classes, from all the values that occur."""
        classes = values - {IGNORE}
        if not classes:
            raise DatasetError(f"The label images in {str(self.labels)!r} hold no class.")
        number = max(classes) + 1
        if values == {0, IGNORE}:
            raise DatasetError(
                f"The label images in {str(self.labels)!r} hold 0 and 255 alone, and 255 is "
                "ignored unless a mapping says otherwise, which leaves one class; if these are "
                "masks, give a `mapping` file with the two lines '0: background' and "
                "'255: object', or `num_classes=1` if they are not."
            )
        if number > _MAX_CLASSES:
            raise DatasetError(
                f"The label images in {str(self.labels)!r} hold values up to {number - 1}, which "
                "can hardly be classes; give a `mapping` file that says which class each value is."
            )
        if len(classes) < number:
            warnings.warn(
                f"The label images in {str(self.labels)!r} hold values up to {number - 1}, so "
                f"there are {number} classes, of which {number - len(classes)} never occur and "
                "yet may count in a mean; give a `mapping` if the values are not the classes.",
                stacklevel=3,
            )
        return [str(index) for index in range(number)]

    def read_annotations(self, record: Record) -> tuple[Tensor, ...]:
        """Map values to classes, or take them as classes."""
        if self._mapping is not None:
            try:
                return super().read_annotations(record)
            except DatasetError as error:
                raise DatasetError(
                    f"{str(error).rstrip('.')}; list them in the mapping, as a class or as ignore, "
                    "or add the line 'unlisted: ignore' to it."
                ) from error
        return tuple(self._read_classes(path) for path in record.annotations)

    def _read_classes(self, path: Path) -> Tensor:
        """A label image whose values are the classes."""
        stored = read_label_image(path)
        if stored.ndim == 3 and bool((stored == stored[..., :1]).all()):
            stored = stored[..., 0]  # grey that was saved as RGB
        if stored.ndim == 3:
            raise DatasetError(
                f"The label image {str(path)!r} is coloured; give a `mapping` from colours to "
                "classes."
            )
        classes = torch.from_numpy(stored.astype("int64"))
        classes[classes == _VOID] = IGNORE
        if self.class_names and int(classes.max()) >= self.num_classes:
            raise DatasetError(
                f"The label image {str(path)!r} holds the value {int(classes.max())}, but there "
                f"are {self.num_classes} classes, from 0 up; give a `mapping`, or the right "
                "`num_classes`."
            )
        return classes
