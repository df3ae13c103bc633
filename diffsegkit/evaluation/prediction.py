"""Label maps of a whole data set, written as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from diffsegkit.data import Sample, SegmentationDataModule
from diffsegkit.errors import UsageError
from diffsegkit.journal import Journal
from diffsegkit.manifest import Entry, Manifest, digest, file_digest, file_sizes
from diffsegkit.segmentation import Segmentation


class LabelMapWriter(BasePredictionWriter):
    """Writes ``<id>.png`` for each sample, and a manifest of what is done.

    A label map is a grey PNG of 8 bits, or 16 where there are more than 256 segments; the value of
    a pixel is the id of its segment. Where segments have names, the manifest has them too, in the
    order of the ids.

    Args:
        directory: Where to; ids with slashes give folders in it.
        configuration: Everything that the label maps depend on beside the images, plain data.
        skip_existing: Whether to leave out images whose label maps with this configuration are
            there, as the manifest says.
    """

    def __init__(
        self,
        directory: str | Path,
        configuration: Mapping[str, Any],
        *,
        skip_existing: bool = False,
    ) -> None:
        super().__init__(write_interval="batch")
        self.directory = Path(directory)
        self.configuration = digest(configuration)
        self.skip_existing = skip_existing
        self.num_skipped = 0
        self._journal: Journal | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look what is done, before any process adds to it; a hook of Lightning.

        Args:
            trainer: Which predicts.
            pl_module: Not looked at.
            stage: ``"predict"``.
        """
        super().setup(trainer, pl_module, stage)
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, SegmentationDataModule):
            raise UsageError(
                "Expected `datamodule` to be a SegmentationDataModule, but got "
                f"{type(data).__name__}; see diffsegkit.data."
            )
        manifest = Manifest(self.directory)
        self._journal = manifest.journal(trainer.global_rank)
        if trainer.is_global_zero and not self.skip_existing:
            # Label maps of another run would pass for this one's.
            manifest.clear(self._journal)
        trainer.strategy.barrier("cleared")
        self._journal.open()
        if self.skip_existing:
            done = [
                image
                for image, path in zip(data.ids, data.paths, strict=True)
                if manifest.is_done(
                    image, sha256=file_digest(path), configuration=self.configuration
                )
            ]
            self.num_skipped = len(done)
            data.skip(done)
        trainer.strategy.barrier("looked")

    def teardown(self, *_: object, **__: object) -> None:
        """Let others write; a hook of Lightning."""
        if self._journal is not None:
            self._journal.close()

    def on_exception(self, *_: object, **__: object) -> None:
        """Let others write, or the same process again; a hook of Lightning."""
        self.teardown()

    def write_on_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        prediction: Sequence[Segmentation],
        batch_indices: Sequence[int] | None,  # noqa: ARG002
        batch: Sequence[Sample],
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        """Write a batch; a hook of Lightning.

        Args:
            trainer: Not looked at.
            pl_module: Not looked at.
            prediction: One segmentation per sample.
            batch_indices: Not looked at: samples have names.
            batch: The samples.
            batch_idx: Not looked at.
            dataloader_idx: Not looked at.
        """
        assert self._journal is not None  # setup made it
        for sample, segmentation in zip(batch, prediction, strict=True):
            file = f"{sample.id}.png"
            segmentation.save_labels(self.directory / file)
            entry = Entry(
                id=sample.id,
                sha256=file_digest(sample.path) or "",
                configuration=self.configuration,
                files=file_sizes(self.directory, [file]),
                num_segments=segmentation.num_segments,
            )
            names = {} if segmentation.names is None else {"names": list(segmentation.names)}
            self._journal.append({**asdict(entry), **names})
