"""COCO-Object."""

from diffsegkit.data.builtin_mapping import builtin_mapping
from diffsegkit.data.coco_pixel_maps import COCOPixelMaps
from diffsegkit.data.mapping import ClassMapping


class COCOObject(COCOPixelMaps):
    """COCO with its 80 kinds of things, and everything else as background.

    The labels are COCO-Stuff's pixel maps, as in GroupViT, TCL and DiffCut, not the polygons of
    ``instances_val2017.json``, whose overlaps each reader resolves in its own way. Class 0 is the
    background: all stuff, and unlabelled pixels (255) too, as those code bases have it.

    Args:
        root: The folder that holds ``val2017`` and the pixel maps.
        split: ``"val2017"`` or ``"train2017"``.
        curated: Whether only the 2175 curated images of COCO-Stuff-27 count, as in DiffCut and
            the figures compared with it; GroupViT and TCL have all 5000.
        crop: Side in pixels to which the centre square is brought; own size by default.
        ids: A text file with one sample id a line, to evaluate these alone.
        limit: Evaluate the first so many alone.
        batch_size: Images at a time.
        num_workers: Processes that load.

    Raises:
        UsageError: If an argument is out of its range or there is no such split.
    """

    class_names = builtin_mapping("coco_object").classes
    background = 0

    @property
    def mapping(self) -> ClassMapping:
        """From 182 categories to 80 things and the background."""
        return builtin_mapping("coco_object")
