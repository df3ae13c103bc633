"""Data sets to evaluate on, as Lightning data modules."""

from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.folder import Folder
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.record import Record
from diffsegkit.data.sample import IGNORE, Sample
from diffsegkit.data.sampler import EvaluationSampler

__all__ = [
    "IGNORE",
    "ClassMapping",
    "EvaluationSampler",
    "Folder",
    "Record",
    "Sample",
    "SegmentationDataModule",
]
