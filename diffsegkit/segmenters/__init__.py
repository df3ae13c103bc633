"""Methods that go from an image to segments by themselves: the baselines."""

from diffsegkit.segmenters.felzenszwalb import Felzenszwalb
from diffsegkit.segmenters.image_segmenter import ImageSegmenter
from diffsegkit.segmenters.one_segment import OneSegment
from diffsegkit.segmenters.slic import SLIC

__all__ = ["SLIC", "Felzenszwalb", "ImageSegmenter", "OneSegment"]
