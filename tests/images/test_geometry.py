"""Sizes, crops and resizing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from diffsegkit.images import centre_crop, input_size, resize_image

sides = st.integers(1, 12000)


@pytest.mark.parametrize(
    ("size", "box"),
    [((480, 640), (80, 0, 560, 480)), ((641, 480), (0, 80, 480, 560)), ((5, 5), (0, 0, 5, 5))],
)
def test_centre_crop(size, box):
    assert centre_crop(size) == box


@given(sides, sides, st.integers(1, 2048), st.sampled_from([1, 14, 64]))
def test_input_sizes(height, width, image_size, multiple):
    for resize in ("fit", "square", "crop"):
        found = input_size((height, width), image_size, resize, multiple)
        assert all(side % multiple == 0 and side > 0 for side in found)
        assert abs(max(found) - image_size) <= multiple
        if resize != "fit":
            assert found[0] == found[1]
        # What is prepared already stays as it is.
        if max(found) == image_size:
            assert input_size(found, image_size, resize, multiple) == found
    fitted = input_size((height, width), image_size, "fit", 1)
    short, long = min(height, width), max(height, width)
    assert abs(min(fitted) - max(1, short * image_size / long)) <= 0.5 + 1e-9


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(7, 5), (40, 33), (20, 30)])
def test_resizing_is_bilinear_in_float(antialias, size):
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    expected = functional.interpolate(
        image[None].double() / 255, size=size, mode="bilinear", antialias=antialias
    )[0]
    found = resize_image(image, size, antialias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(resize_image(image.float() / 255, size, antialias), found)


def test_half_pixel_centres_without_antialias_by_hand():
    """Halving reads the mean of the two middle pixels of each block, as the original does."""
    image = torch.tensor([0, 0, 100, 200, 50, 50, 0, 0], dtype=torch.uint8).expand(3, 1, 8)
    found = resize_image(image, (1, 2), antialias=False)
    torch.testing.assert_close(found[0, 0], torch.tensor([50.0, 25.0]) / 255)
