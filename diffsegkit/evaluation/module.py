"""Any method on any data set, as a LightningModule."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from diffsegkit.data import IGNORE, Sample, SegmentationDataModule
from diffsegkit.environment import versions
from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.evaluation.protocol import Background, Protocol, ProtocolName, Variant, measure
from diffsegkit.evaluation.results import Results, write_results
from diffsegkit.evaluation.run_folder import RunFolder
from diffsegkit.journal import Journal
from diffsegkit.segmentation import Segmentation

Need = Literal["LD", "UA", "AX"]
KnownNumber = Literal["none", "target", "mean"]


class EvaluationModule(LightningModule):
    """Segments a data set and scores it by a protocol; or only segments it.

    ``Trainer.test`` scores: each image is measured once, by one process, and what was measured
    goes to a journal; at the end every process rebuilds the metrics from all of it, in the order
    of the data. So the numbers do not depend on how many processes there were, on batches, or on
    interruptions. ``Trainer.predict`` gives a list of :class:`~diffsegkit.Segmentation` per batch,
    for :class:`~diffsegkit.evaluation.LabelMapWriter` to write.

    Args:
        methods: What is evaluated, by the names that results have: each a ``Segmenter`` or an
            ``ImageSegmenter``. One segmenter alone is called ``"method"``.
        directory: The folder of the run: journal, results, pictures.
        protocol: The data's own by default, see :class:`Protocol`.
        variant: See :class:`Protocol`.
        background: See :class:`Protocol`.
        num_clusters: See :class:`Protocol`.
        num_segments: What methods are told of the ground truth: ``"none"``; ``"target"``: the
            number of classes (or regions) of each image, for K-Means-S; ``"mean"``: their mean over
            the data set, rounded, for K-Means-C. Results say so.
        needs: What the methods need beyond the image: ``"LD"`` language dependency, ``"UA"``
            unsupervised adaptation to the data set, ``"AX"`` auxiliary images; the columns of the
            paper's tables.
        pictures: How many of the best, median and worst images each are drawn.
        resume: Whether to go on with an interrupted run in ``directory``.
        overwrite: Whether an interrupted run in ``directory`` may be lost.
        table: The ``results.csv`` that gets a row per method; beside ``directory`` by default.
        metadata: What else the results say, such as the configuration.

    Raises:
        UsageError: If an argument is unknown, or there is no method.
    """

    def __init__(
        self,
        methods: nn.Module | Mapping[str, nn.Module],
        directory: str | Path,
        *,
        protocol: ProtocolName | None = None,
        variant: Variant = "original",
        background: Background = "class",
        num_clusters: int | None = None,
        num_segments: KnownNumber = "none",
        needs: Sequence[Need] = (),
        pictures: int = 1,
        resume: bool = False,
        overwrite: bool = False,
        table: str | Path | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(methods, nn.Module):
            methods = {"method": methods}
        if not methods:
            raise UsageError("Expected at least one method to evaluate, but got none.")
        for name, value, choices in (
            *(("needs", need, Need) for need in needs),
            ("num_segments", num_segments, KnownNumber),
        ):
            if value not in get_args(choices):
                raise UsageError(
                    f"Expected argument `{name}` to be one of {get_args(choices)}, but got "
                    f"{value!r}."
                )
        if pictures < 0:
            raise UsageError(f"Expected argument `pictures` to be at least 0, but got {pictures}.")
        # Names may hold what names of submodules may not, such as a dot.
        self._names = list(methods)
        self._methods = nn.ModuleList(methods.values())
        self.folder = RunFolder(Path(directory))
        self.table = self.folder.directory.parent / "results.csv" if table is None else Path(table)
        self.protocol: ProtocolName | None = protocol
        self.variant: Variant = variant
        self.background: Background = background
        self.num_clusters = num_clusters
        self.num_segments: KnownNumber = num_segments
        self.needs = list(needs)
        self.pictures = pictures
        self.resume = resume
        self.overwrite = overwrite
        self.metadata = dict(metadata or {})
        self._journal: Journal | None = None
        self._mean_number: int | None = None
        self._launcher = 0

    @property
    def methods(self) -> dict[str, nn.Module]:
        """What is evaluated, by name."""
        return dict(zip(self._names, self._methods, strict=True))

    def protocol_for(self, data: SegmentationDataModule) -> Protocol:
        """The protocol by which the data are scored.

        Args:
            data: The data set.
        """
        name = self.protocol or data.protocol
        return Protocol(
            cast("ProtocolName", name), self.variant, self.background, self.num_clusters
        )

    def description(self, data: SegmentationDataModule) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain data.

        Args:
            data: The data set, after its ``setup``.
        """
        return {
            "methods": {
                name: dict(getattr(method, "configuration", {})) or repr(method)
                for name, method in self.methods.items()
            },
            "data": data.describe(),
            "protocol": self.protocol_for(data).describe(),
            "num_segments": self.num_segments,
            "dtype": self.metadata.get("dtype", "auto"),
            "seed": self.metadata.get("seed"),
            "versions": versions(),
        }

    def check(self, data: SegmentationDataModule) -> None:
        """Be sure, before any work, that data and protocol fit and that no run is lost or mixed.

        Args:
            data: The data set, after its ``setup``.

        Raises:
            UsageError: If not.
        """
        data.check_ground_truth()
        self.protocol_for(data).metrics(data)
        description = self.description(data)
        self.folder.check(description, resume=self.resume, overwrite=self.overwrite)

    def setup(self, stage: str) -> None:
        """Begin or go on with the run, on all processes at once; a hook of Lightning.

        Args:
            stage: ``"test"`` or ``"predict"``.
        """
        data = self._data()
        if self.trainer.precision != "32-true":
            raise UsageError(
                f"Expected the trainer's precision to be 32-true, but got "
                f"{self.trainer.precision}, which would change results unseen; put the method in "
                "another dtype, with --dtype on the command line."
            )
        self._launcher = os.getppid()
        if self.num_segments == "mean":
            number = _mean_number(data) if self.trainer.is_global_zero else 0
            self._mean_number = self.trainer.strategy.broadcast(number)
        if stage != "test":
            return
        self._journal = self.folder.journal(self.global_rank)
        if self.trainer.is_global_zero:
            self.check(data)
            self._journal = self.folder.begin(self.description(data), resume=self.resume)
        # Nobody may look before the old journal is gone, nor write before all have looked.
        self.trainer.strategy.barrier("begun")
        self._journal.open()
        data.skip(self.folder.done(self._files(data)))
        self.trainer.strategy.barrier("looked")

    def test_step(self, batch: list[Sample], batch_idx: int) -> None:  # noqa: ARG002
        """Measure a batch, and write down what was measured.

        Args:
            batch: Samples with annotations; a process that has no more has none.
            batch_idx: Not looked at.
        """
        assert self._journal is not None  # setup made it
        self._stop_if_left_behind()
        for record in self._measure(batch):
            self._journal.append(record)

    def configure_callbacks(self) -> list[Callback]:
        """What closes the journal when a run fails; a hook of Lightning."""
        return [_JournalCloser()]

    def close(self) -> None:
        """Let others write the journal: the same process too, if it goes on after a failure."""
        if self._journal is not None:
            self._journal.close()

    def on_test_epoch_end(self) -> None:
        """Rebuild the metrics from what all processes measured; the first writes the results."""
        self.trainer.strategy.barrier("measured")
        data = self._data()
        protocol = self.protocol_for(data)
        records = self.folder.complete_records(self._files(data))
        results = {
            name: Results.from_records(name, records, protocol.metrics(data), protocol, data)
            for name in self.methods
        }
        prefix = {name: f"{name}/" if len(results) > 1 else "" for name in results}
        self.log_dict(
            {
                f"{prefix[name]}{metric}": value
                for name, result in results.items()
                for metric, value in result.scores.items()
            },
            # Every process has the same numbers; Lightning wants to hear that they are in step.
            sync_dist=self.trainer.world_size > 1,
        )
        if self.trainer.is_global_zero:
            write_results(self, data, results)
        self.trainer.strategy.barrier("written")
        self.close()

    def predict_step(self, batch: list[Sample], batch_idx: int) -> list[Segmentation]:  # noqa: ARG002
        """Segment a batch with the one method.

        Args:
            batch: Samples, with or without annotations; maybe none.
            batch_idx: Not looked at.

        Returns:
            One segmentation per sample.

        Raises:
            UsageError: If there are several methods.
        """
        self._stop_if_left_behind()
        if len(self._methods) > 1:
            raise UsageError(f"Expected one method to predict with, but got {self._names}.")
        return self._segment(self._methods[0], batch) if batch else []

    def segment_samples(self, name: str, samples: Sequence[Sample]) -> list[Tensor]:
        """Label maps of some samples, for pictures.

        Args:
            name: The method.
            samples: Which.

        Returns:
            ``(H, W)`` int64 on the CPU, one per sample.
        """
        method = self.methods[name]
        return [self._segment(method, [sample])[0].labels.cpu() for sample in samples]

    def _files(self, data: SegmentationDataModule) -> Mapping[str, str]:
        """By id what a measurement depends on that may change: the files, and the mean of K."""
        if self._mean_number is None:
            return data.file_digests
        return {
            image: f"{digest}-{self._mean_number}" for image, digest in data.file_digests.items()
        }

    def _stop_if_left_behind(self) -> None:
        """End with the process that started this one: nobody waits, and another run may go on."""
        if self.local_rank and os.getppid() != self._launcher:
            raise DiffSegKitError("The process that started this one is gone, so this one ends.")

    def _measure(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """What the journal keeps of each sample."""
        data = self._data()
        protocol = self.protocol_for(data)
        metrics = protocol.metrics(data)
        files = self._files(data)
        records: list[dict[str, Any]] = [
            {"id": sample.id, "files": files[sample.id], "methods": {}} for sample in batch
        ]
        for name, method in self.methods.items():
            segmentations = self._segment(method, batch) if batch else []
            for sample, segmentation, record in zip(batch, segmentations, records, strict=True):
                labels = _fitting(segmentation.labels.cpu(), sample)
                record["methods"][name] = {
                    "num_segments": segmentation.num_segments,
                    "times_ms": {key: round(ms, 3) for key, ms in segmentation.times.items()},
                    "statistics": measure(
                        metrics, labels, sample.annotations, protocol.name == "region"
                    ),
                }
        return records

    def _segment(self, method: nn.Module, batch: Sequence[Sample]) -> list[Segmentation]:
        numbers: list[int] | None = None
        if self.num_segments == "target":
            numbers = [_number_in(sample) for sample in batch]
        elif self.num_segments == "mean":
            assert self._mean_number is not None  # setup found it
            numbers = [self._mean_number] * len(batch)
        images = [sample.image for sample in batch]
        try:
            segmentations: list[Segmentation] = method(
                images, num_segments=numbers, batch_size=len(batch)
            )
        except DiffSegKitError:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            # A method of somebody else may fail on an image with anything: say on which.
            ids = ", ".join(repr(sample.id) for sample in batch)
            text = " ".join(str(error).split())
            raise DiffSegKitError(
                f"{type(method).__name__} failed on {ids}: {type(error).__name__}: {text} (run "
                "again with --debug to see where)."
            ) from error
        return segmentations

    def _data(self) -> SegmentationDataModule:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SegmentationDataModule):
            raise UsageError(
                "Expected `datamodule` to be a SegmentationDataModule, but got "
                f"{type(data).__name__}; see diffsegkit.data."
            )
        return data


class _JournalCloser(Callback):
    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        exception: BaseException,  # noqa: ARG002
    ) -> None:
        cast("EvaluationModule", pl_module).close()


def _fitting(labels: Tensor, sample: Sample) -> Tensor:
    """The label map, if it has the size of what it is compared with."""
    if not sample.annotations:
        raise UsageError(
            f"The image {sample.id!r} has no ground truth to score with; use `diffsegkit predict`."
        )
    expected = tuple(sample.annotations[0].shape)
    if tuple(labels.shape) != expected:
        raise UsageError(
            f"The label map of {sample.id!r} has {tuple(labels.shape)} pixels and its ground truth "
            f"{expected}; let the data crop (--data.crop 512), not the segmenter (--resize fit)."
        )
    return labels


def _number_in(sample: Sample) -> int:
    """How many classes, or regions as annotators see them on average, an image has."""
    if not sample.annotations:
        raise UsageError(
            f"The image {sample.id!r} has no ground truth to count; use --model.num_segments none."
        )
    numbers = [len(set(each.flatten().tolist()) - {IGNORE}) for each in sample.annotations]
    return max(1, round(sum(numbers) / len(numbers)))


def _mean_number(data: SegmentationDataModule) -> int:
    numbers = [_number_in(data.load(index)) for index in range(len(data.ids))]
    return max(1, round(sum(numbers) / len(numbers)))
