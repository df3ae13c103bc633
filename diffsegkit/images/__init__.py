"""Anything that is an image, to a tensor of the size a source wants."""

from diffsegkit.images.geometry import centre_crop, input_size, resize_image
from diffsegkit.images.loading import ImageLike, load_image, load_images

__all__ = ["ImageLike", "centre_crop", "input_size", "load_image", "load_images", "resize_image"]
