"""Segment and save many photos: batches, progress, and what failed."""

import errno
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

from diffsegkit.cli.explain import explain, is_out_of_memory
from diffsegkit.cli.photos import Photo
from diffsegkit.errors import DiffSegKitError
from diffsegkit.images import load_image
from diffsegkit.manifest import Entry, Manifest, digest, file_digest, file_sizes
from diffsegkit.segmentation import Segmentation
from diffsegkit.segmenter import Segmenter
from diffsegkit.segmenters import ImageSegmenter

_LINES = 20  # with more photos than this, no line for each
_logger = logging.getLogger("diffsegkit")


@dataclass
class Job:
    """What is common to all photos of a run.

    Args:
        segmenter: On its device and in its dtype.
        directory: Where results go.
        batch_size: Photos at a time.
        metadata: What each JSON says about the run.
    """

    segmenter: Segmenter | ImageSegmenter
    directory: Path
    batch_size: int
    metadata: Mapping[str, Any]
    _failures: list[str] = field(default_factory=list, init=False)

    @cached_property
    def _configuration(self) -> str:
        """Names what a result depends on beside the photo."""
        return digest({key: self.metadata[key] for key in ("configuration", "dtype")})

    def not_done(self, photos: Sequence[Photo]) -> list[Photo]:
        """Without those whose results with these very options are there.

        Args:
            photos: Which.
        """
        manifest = Manifest(self.directory)
        return [
            photo
            for photo in photos
            if not manifest.is_done(
                photo.stem,
                sha256=file_digest(photo.path),
                configuration=self._configuration,
            )
        ]

    def run(self, photos: Sequence[Photo]) -> tuple[int, list[str]]:
        """Segment and save.

        Args:
            photos: Which.

        Returns:
            How many were saved, and a sentence for each that failed.

        Raises:
            OSError: If results cannot be written.
        """
        self._failures.clear()
        done = 0
        with (
            Manifest(self.directory).journal() as journal,
            _progress(visible=len(photos) > 1) as progress,
        ):
            task = progress.add_task("", total=len(photos))
            for start in range(0, len(photos), self.batch_size):
                batch = photos[start : start + self.batch_size]
                for photo, segmentation, entry in self._segment(batch):
                    journal.append(asdict(entry))
                    done += 1
                    if len(photos) <= _LINES:
                        print(self._line(photo, segmentation))  # noqa: T201
                progress.advance(task, len(batch))
        return done, list(self._failures)

    def _segment(self, photos: Sequence[Photo]) -> list[tuple[Photo, Segmentation, Entry]]:
        """Segment and save a batch; a photo that fails is noted and costs the others nothing."""
        start = time.perf_counter()
        loaded = [(photo, image) for photo in photos if (image := self._load(photo)) is not None]
        if not loaded:
            return []
        read = (time.perf_counter() - start) * 1000 / len(loaded)
        try:
            segmentations = self.segmenter(
                [image for _, image in loaded], batch_size=self.batch_size
            )
        # A plugin may fail on a photo with anything; the machine's failures concern all photos.
        except Exception as error:
            if len(loaded) > 1:
                return [result for photo, _ in loaded for result in self._segment([photo])]
            if isinstance(error, OSError) or is_out_of_memory(error):
                raise
            [(photo, _)] = loaded
            self._note(photo, f"{str(photo.path)!r}: {explain(error)}")
            return []
        results = []
        for (photo, image), segmentation in zip(loaded, segmentations, strict=True):
            timed = replace(segmentation, times={"read": read, **segmentation.times})
            sha256 = file_digest(photo.path)
            source = {"path": str(photo.path), "sha256": sha256}
            metadata = {"photo": source, **self.metadata}
            try:
                files = timed.save(self.directory, photo.stem, image=image, metadata=metadata)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    # No other photo would fare better; a write does not know where it was.
                    raise OSError(error.errno, error.strerror, str(self.directory)) from error
                self._note(photo, f"{str(photo.path)!r}: {explain(error)}")
                continue
            entry = Entry(
                id=photo.stem,
                sha256=sha256 or "",
                configuration=self._configuration,
                files=file_sizes(self.directory, [file.name for file in files]),
                num_segments=timed.num_segments,
            )
            results.append((photo, timed, entry))
        return results

    def _load(self, photo: Photo) -> Tensor | None:
        try:
            return load_image(photo.path)
        except DiffSegKitError as error:
            self._note(photo, str(error))
            return None

    def _line(self, photo: Photo, segmentation: Segmentation) -> str:
        number = segmentation.num_segments
        if number > 1:
            return f"{photo.path}: {number} segments"
        remedy = "; smaller --merger.thresholds would separate more"
        has_thresholds = hasattr(getattr(self.segmenter, "merger", None), "thresholds")
        return f"{photo.path}: 1 segment{remedy * has_thresholds}"

    def _note(self, photo: Photo, failure: str) -> None:
        """Remember a failure; with ``--debug``, show where the error that is being handled was."""
        _logger.debug("%s", photo.path, exc_info=True)
        self._failures.append(failure)


def _progress(visible: bool) -> Progress:
    return Progress(
        TextColumn("segmenting"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible,
        # rich would send what is printed meanwhile to the bar's stream, past a pipe's reader.
        redirect_stdout=sys.stdout.isatty(),
    )


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        if not task.elapsed:
            return Text("- images/s")
        return Text(f"{task.completed / task.elapsed:.2f} images/s")
