"""The original's preparation, against a reading of its description in NumPy."""

import math

import numpy as np
import pytest
import torch

from diffsegkit.data.preparation import crop_and_resize


def bilinear(square, side):
    """Half-pixel centres, no antialiasing; ``square`` is (n, n)."""
    n = len(square)
    at = np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1)
    low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
    high = np.minimum(low + 1, n - 1)
    part = at - low
    rows = square[low] * (1 - part)[:, None] + square[high] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, high] * part


@pytest.mark.parametrize("size", [(48, 64), (67, 50), (31, 31), (20, 97)])
@pytest.mark.parametrize("side", [32, 64, 51])
def test_crop_and_resize(size, side):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, *size), dtype=np.uint8)
    labels = rng.integers(-1, 20, size)
    n = min(size)
    top, left = (size[0] - n) // 2, (size[1] - n) // 2
    found, (found_labels,) = crop_and_resize(
        torch.from_numpy(image), (torch.from_numpy(labels),), side
    )
    cut = image[:, top : top + n, left : left + n].astype(float)
    expected = np.stack([bilinear(channel, side) for channel in cut]) / 255
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    steps = [math.floor(((2 * i + 1) * n) / (2 * side)) for i in range(side)]
    expected_labels = labels[top : top + n, left : left + n][np.ix_(steps, steps)]
    np.testing.assert_array_equal(found_labels.numpy(), expected_labels)


def test_labels_agree_with_nearest_exact():
    labels = torch.arange(48 * 48).reshape(48, 48)
    _, (found,) = crop_and_resize(torch.zeros(3, 48, 48), (labels,), 512)
    exact = torch.nn.functional.interpolate(
        labels[None, None].double(), (512, 512), mode="nearest-exact"
    )
    assert torch.equal(found, exact[0, 0].long())


def test_a_pixel_on_the_edge_of_two():
    """(i + 0.5) * 2 is whole: the later pixel it is."""
    _, (found,) = crop_and_resize(torch.zeros(3, 4, 4), (torch.arange(16).reshape(4, 4),), 2)
    assert found.tolist() == [[5, 7], [13, 15]]
