"""What every data set has in common."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from diffsegkit.data.files import read_lines
from diffsegkit.data.label_image import read_label_image
from diffsegkit.data.loader import SampleLoader, Samples, collate
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.preparation import crop_and_resize
from diffsegkit.data.record import Record
from diffsegkit.data.sample import Sample
from diffsegkit.data.sampler import EvaluationSampler
from diffsegkit.errors import DatasetError, DiffSegKitError, UsageError
from diffsegkit.images import load_image
from diffsegkit.parsing import did_you_mean

_SHOWN = 3  # files that a message names


class SegmentationDataModule(LightningDataModule, ABC):
    """A data set to evaluate on: images in a fixed order, with their ground truth.

    A new data set defines :meth:`find_records`, and :attr:`mapping` if its labels are images, or
    else :meth:`read_annotations`. Everything else is here: preparation, subsets, sharing between
    processes, resumption and checks.

    Args:
        root: The folder that holds what the archives of the data set unpack to.
        split: Which part, as the publisher calls it.
        crop: Side in pixels to which the centre square of image and labels is brought, as the
            original's evaluation does with 512; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.

    Example:
        >>> class Photos(SegmentationDataModule):
        ...     '''All photos of a folder, without ground truth.'''
        ...
        ...     def find_records(self):
        ...         return [Record(path.stem, path) for path in self.root.glob("*.jpg")]
    """

    class_names: Sequence[str] = ()
    """Names of the classes by index; empty where regions have no class."""

    background: int | None = None
    """Index of the background class, if there is one."""

    protocol: str = "image-matched"
    """What it is scored by unless asked otherwise: ``"image-matched"`` or ``"region"``."""

    splits: ClassVar[Mapping[str, int]] = {}
    """The official splits, and how many images each has; empty to allow any name."""

    layout: ClassVar[str] = ""
    """The tree of files below the root, drawn for messages; SPLIT stands for the split."""

    homepage: ClassVar[str] = ""
    """Where the data set is to be had."""

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
        super().__init__()
        self.name: str = type(self).__name__
        least = {"crop": 1, "limit": 1, "batch_size": 1, "num_workers": 0}
        given = {"crop": crop, "limit": limit, "batch_size": batch_size, "num_workers": num_workers}
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise UsageError(
                    f"Expected argument `{name}` to be at least {least[name]}, but got {value}."
                )
        if self.splits and split not in self.splits:
            raise UsageError(
                f"{self.name} has no split {split!r}{did_you_mean(split, list(self.splits))} Its "
                f"splits are {', '.join(self.splits)}."
            )
        self.root = Path(root).expanduser()
        self.split = split
        self.crop = crop
        self.ids_file = None if ids is None else Path(ids).expanduser()
        self.limit = limit
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._records: list[Record] | None = None
        self._skipped: frozenset[str] = frozenset()

    # What a data set defines.

    @abstractmethod
    def find_records(self) -> Iterable[Record]:
        """Find all images of the split, in any order.

        Returns:
            A record for each image, for each label, and for each id of an official list; the
            files of a record may be missing, which is reported for all of them together.

        Raises:
            DatasetError: If there is nothing to find; see :meth:`absent`.
        """

    @property
    def mapping(self) -> ClassMapping | None:
        """From the values in label images to classes, for data sets whose labels are images."""
        return None

    def read_annotations(self, record: Record) -> tuple[Tensor, ...]:
        """Read the ground truth of an image; :attr:`mapping` applied to its label images.

        Args:
            record: What :meth:`find_records` gave.

        Returns:
            Each ``(H, W)`` int64, as :class:`Sample` has them.

        Raises:
            ImageError: If a file cannot be read.
            DatasetError: If it holds values that stand for no class.
        """
        if not record.annotations:
            return ()
        if self.mapping is None:
            raise TypeError(f"{self.name} defines neither mapping nor read_annotations.")
        return tuple(
            self.mapping.apply(read_label_image(path), path) for path in record.annotations
        )

    # What its users see.

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0 where regions have no class."""
        return len(self.class_names)

    @property
    def ids(self) -> list[str]:
        """The ids of the samples, sorted; :meth:`load` counts in this order."""
        return [record.id for record in self._found()]

    @property
    def paths(self) -> list[Path]:
        """The images, in the order of :attr:`ids`."""
        return [record.image for record in self._found()]

    @property
    def expected(self) -> int | None:
        """How many images the split officially has, if that is known."""
        return self.splits.get(self.split)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Find all records, once, and look whether their files are there.

        Args:
            stage: What Lightning is about to do; without influence.

        Raises:
            DatasetError: If the data set is missing or incomplete, two samples have one id, or
                the file of ids names unknown ones.
        """
        if self._records is not None:
            return
        records = self._select(self._all_records())
        incomplete = {
            index: problem for index, record in enumerate(records) if (problem := record.missing())
        }
        if incomplete:
            raise DatasetError(self._incomplete(incomplete, len(records)))
        self._records = records

    def load(self, index: int) -> Sample:
        """Load one sample.

        Args:
            index: Its position in :attr:`ids`.

        Returns:
            Image and ground truth, prepared as asked for.

        Raises:
            ImageError: If a file cannot be read.
            DatasetError: If image and label differ in size, or a label's values stand for no
                class.
        """
        record = self._found()[index]
        image = load_image(record.image)
        annotations = self.read_annotations(record)
        for number, annotation in enumerate(annotations):
            if annotation.shape != image.shape[1:]:
                label = record.annotations[min(number, len(record.annotations) - 1)]
                raise DatasetError(_sizes_differ(record.image, image, label, annotation))
        if self.crop is not None:
            image, annotations = crop_and_resize(image, annotations, self.crop)
        return Sample(record.id, record.image, image, annotations)

    def skip(self, ids: Iterable[str]) -> None:
        """Leave samples out of the loaders, because a run that is resumed has done them.

        Args:
            ids: Which; others than those of an earlier call, and unknown ones are no error.
        """
        self._skipped = frozenset(ids)

    def check_ground_truth(self) -> None:
        """Be sure that there is something to test against.

        Raises:
            DatasetError: If an image has no ground truth.
        """
        without = [record.id for record in self._found() if not record.annotations]
        if without:
            raise DatasetError(
                f"{self.name}, split {self.split!r}, has no ground truth for {without[0]!r}"
                f"{f' and {len(without) - 1} more' if without[1:] else ''}, so it can be predicted "
                "on, but not tested on; give its labels (of a Folder with `labels`), or use "
                "`diffsegkit predict`."
            )

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the samples.

        Returns:
            A loader of lists of samples, which may be empty: all processes get equally many.

        Raises:
            DatasetError: If there is no ground truth to test against.
        """
        self.check_ground_truth()
        return self._loader()

    def predict_dataloader(self) -> DataLoader[Sample]:
        """As :meth:`test_dataloader`, with or without ground truth."""
        return self._loader()

    def transfer_batch_to_device(
        self,
        batch: list[Sample],
        device: torch.device,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> list[Sample]:
        """Leave photos where they are: a method moves what it needs, at the size it needs.

        Args:
            batch: The samples.
            device: Not looked at.
            dataloader_idx: Not looked at.
        """
        return batch

    def describe(self) -> dict[str, Any]:
        """What a result must say about its data, as plain values.

        Returns:
            Name, split, how many images and how many there officially are, what was done to them,
            the classes, and which images and which mapping these were, as SHA-256 digests.
        """
        ids = self.ids
        return {
            "name": self.name,
            "split": self.split,
            "images": len(ids),
            "official_images": self.expected,
            "crop": self.crop,
            "limit": self.limit,
            "ids_file": None if self.ids_file is None else self.ids_file.name,
            "ids_sha256": sha256("\n".join(ids).encode()).hexdigest(),
            "files_sha256": sha256("".join(self.file_digests.values()).encode()).hexdigest(),
            "protocol": self.protocol,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "background": self.background,
            "mapping_sha256": None if self.mapping is None else self.mapping.digest(),
        }

    @cached_property
    def file_digests(self) -> dict[str, str]:
        """By id a SHA-256 of the contents of image and labels, as they were when first asked for.

        Two data sets may have the same ids, and a file may change between a run and its
        resumption.
        """
        digests = {}
        for record in self._found():
            digest = sha256()
            for path in (record.image, *record.annotations):
                digest.update(sha256(path.read_bytes()).digest())
            digests[record.id] = digest.hexdigest()
        return digests

    def check(self, *, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Look at every file, and go on where something is wrong.

        Args:
            progress: Called with how many images were looked at, and how many there are.

        Returns:
            Every problem, a sentence each.
        """
        try:
            records = self._all_records()
        except DatasetError as error:
            return [str(error)]
        problems: list[str] = []
        try:
            records = self._select(records)
        except DatasetError as error:
            problems.append(str(error))
        whole = self.ids_file is None and self.limit is None
        if whole and self.expected is not None and len(records) != self.expected:
            problems.append(
                f"{self.name}, split {self.split!r}, officially has {self.expected} images, but "
                f"{len(records)} were found below {str(self.root)!r}."
            )
        # The records as found, so that load works on incomplete ones, in an object of their own.
        probe = copy.copy(self)
        probe._records = records
        for index, record in enumerate(records):
            problem = record.missing()
            if problem is None:
                problems += probe._problems_of(index)
            else:
                problems.append(problem)
            if progress is not None:
                progress(index + 1, len(records))
        return problems

    # How it is done.

    def absent(self, what: str) -> DatasetError:
        """The error for a data set that is not there, or not laid out as it should be.

        Args:
            what: What was looked for, as ``"a folder 'val2017'"``.

        Returns:
            To be raised: what was looked for and where, the expected tree, and where the data set
            is to be had.
        """
        message = (
            f"{self.name}, split {self.split!r}: there is no {what}; `root` is {str(self.root)!r}."
        )
        if self.layout:
            lines = self.layout.strip("\n").replace("SPLIT", self.split).splitlines()
            tree = "\n".join(f"  {line}" for line in lines)
            message += f" Expected below `root`:\n{tree}\n"
        if self.homepage:
            message += f"{'' if self.layout else ' '}It is to be had from {self.homepage}."
        return DatasetError(message)

    def folder(self, *candidates: str) -> Path:
        """The first of several folders that exists.

        Args:
            candidates: Paths below the root; the first is the official one.

        Returns:
            The folder.

        Raises:
            DatasetError: If there is none.
        """
        for candidate in candidates:
            if (self.root / candidate).is_dir():
                return self.root / candidate
        raise self.absent("folder " + " or ".join(map(repr, candidates)))

    def _problems_of(self, index: int) -> Iterator[str]:
        """What is wrong with the image of a record, and with its label."""
        try:
            self.load(index)
        except DiffSegKitError as error:
            yield str(error)
            # When the image is to blame, the label has not been looked at.
            record = self._found()[index]
            try:
                self.read_annotations(record)
            except DiffSegKitError as second:
                if str(second) != str(error):
                    yield str(second)

    def _found(self) -> list[Record]:
        if self._records is None:
            self.setup()
        return self._records or []

    def _all_records(self) -> list[Record]:
        """All records in order, each id once."""
        if not self.root.is_dir():
            raise self.absent(f"folder {str(self.root)!r}")
        records = sorted(self.find_records(), key=lambda record: record.id)
        if not records:
            raise self.absent("image")
        for record, following in pairwise(records):
            if record.id == following.id:
                raise DatasetError(
                    f"{str(record.image)!r} and {str(following.image)!r} have one id, "
                    f"{record.id!r}; rename or remove one."
                )
        return records

    def _select(self, records: list[Record]) -> list[Record]:
        """The records that ``ids`` and ``limit`` leave."""
        if self.ids_file is not None:
            wanted = read_lines(self.ids_file)
            known = {record.id for record in records}
            unknown = [identity for identity in wanted if identity not in known]
            if unknown:
                raise DatasetError(self._unknown_ids(unknown, known))
            records = [record for record in records if record.id in set(wanted)]
            if not records:
                raise DatasetError(f"The list of ids {str(self.ids_file)!r} is empty.")
        return records[: self.limit]

    def _incomplete(self, problems: Mapping[int, str], images: int) -> str:
        """What is missing, by position, and how to evaluate the rest."""
        shown = " ".join(list(problems.values())[:_SHOWN])
        more = f" And {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
        before = min(problems)
        limit = f"; `limit={before}` takes those before the first gap" if before else ""
        return (
            f"{len(problems)} of the {images} images of {self.name}, split {self.split!r}, are "
            f"incomplete below {str(self.root)!r}: {shown}{more} Copy the missing files, or "
            "evaluate what is there: write the ids of the complete ones to a file, one a line, and "
            f"give it as `ids`{limit}."
        )

    def _unknown_ids(self, unknown: Sequence[str], known: Iterable[str]) -> str:
        close = get_close_matches(unknown[0], list(known), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        return (
            f"{len(unknown)} of the ids in {str(self.ids_file)!r} are not in {self.name}, split "
            f"{self.split!r}: {', '.join(map(repr, unknown[:_SHOWN]))}"
            f"{', ...' if unknown[_SHOWN:] else ''}{hint}"
        )

    def _loader(self) -> DataLoader[Sample]:
        indices = [
            index for index, record in enumerate(self._found()) if record.id not in self._skipped
        ]
        # Workers get a copy without the trainer, which cannot be sent to another process.
        detached = copy.copy(self)
        detached.trainer = None
        rank, world_size = 0, 1
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        return SampleLoader(
            Samples(detached.load, len(self._found())),
            batch_size=self.batch_size,
            sampler=EvaluationSampler(indices, rank=rank, world_size=world_size),
            num_workers=self.num_workers,
            collate_fn=collate,
        )


def _sizes_differ(image_path: Path, image: Tensor, label_path: Path, label: Tensor) -> str:
    (height, width), (label_height, label_width) = image.shape[1:], label.shape
    turned = (height, width) == (label_width, label_height)
    hint = "bring one to the size of the other"
    if turned:
        hint = "the orientation in the image's EXIF data was applied, turn the label too"
    return (
        f"The image {str(image_path)!r} has {width}x{height} pixels, but its label "
        f"{str(label_path)!r} has {label_width}x{label_height}; {hint}."
    )
