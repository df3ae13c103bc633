"""COCO-Stuff-27."""

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.coco_pixel_maps import COCOPixelMaps
from diffsegkit.data.mapping import ClassMapping


class COCOStuff27(COCOPixelMaps):
    """COCO-Stuff with 27 coarse classes: the benchmark of PiCIE, STEGO and DiffSeg.

    The 182 categories of the pixel maps are joined to 27; unlabelled pixels (255) are ignored.

    Args:
        root: The folder that holds ``val2017`` and the pixel maps.
        split: ``"val2017"`` or ``"train2017"``.
        curated: Whether only the 2175 curated images of val2017 count, as published figures have
            it; otherwise all 5000.
        crop: Side in pixels to which the centre square is brought; published figures of DiffSeg
            have 512. Own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("coco_stuff27").classes

    @property
    def mapping(self) -> ClassMapping:
        """From 182 categories to 27."""
        return builtin_mapping("coco_stuff27")
