"""Data sets to evaluate on, as Lightning data modules."""

from diffsegkit.data.ade20k import ADE20K
from diffsegkit.data.bsds500 import BSDS500
from diffsegkit.data.camvid import CamVid
from diffsegkit.data.cityscapes import Cityscapes27
from diffsegkit.data.coco_object import COCOObject
from diffsegkit.data.coco_panoptic import COCOPanoptic27
from diffsegkit.data.coco_stuff import COCOStuff27
from diffsegkit.data.datamodule import SegmentationDataModule
from diffsegkit.data.folder import Folder
from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.pascal_context import PascalContext
from diffsegkit.data.pascal_voc import PascalVOC
from diffsegkit.data.record import Record
from diffsegkit.data.sample import IGNORE, Sample
from diffsegkit.data.sampler import EvaluationSampler

__all__ = [
    "ADE20K",
    "BSDS500",
    "IGNORE",
    "COCOObject",
    "COCOPanoptic27",
    "COCOStuff27",
    "CamVid",
    "Cityscapes27",
    "ClassMapping",
    "EvaluationSampler",
    "Folder",
    "PascalContext",
    "PascalVOC",
    "Record",
    "Sample",
    "SegmentationDataModule",
]
