"""Assigners whose edges follow those of the image."""

from diffsegkit_refine.bilateral import BilateralAssigner, bilateral_upsampling
from diffsegkit_refine.conv_crf import ConvCRFAssigner, mean_field
from diffsegkit_refine.guided import GuidedFilterAssigner, guided_filter
from diffsegkit_refine.pamr import PAMRAssigner, pamr
from diffsegkit_refine.superpixels import SuperpixelAssigner

__all__ = [
    "BilateralAssigner",
    "ConvCRFAssigner",
    "GuidedFilterAssigner",
    "PAMRAssigner",
    "SuperpixelAssigner",
    "bilateral_upsampling",
    "guided_filter",
    "mean_field",
    "pamr",
]
