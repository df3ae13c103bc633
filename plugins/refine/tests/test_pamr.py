"""PAMR against loops over pixels, neighbours and colours."""

import numpy as np
import pytest
import torch

from diffsegkit_refine import PAMRAssigner, pamr
from refine_cases import one_hot

ORIGINAL = (1, 2, 4, 8, 12, 24)


def reference(masks, image, iterations, dilations):
    """The paper's section 3.3 and the original's constants, a pixel at a time, in float64."""
    masks, image = masks.double().numpy(), image.double().numpy()
    height, width = image.shape[1:]

    def at(row, column):
        return min(max(row, 0), height - 1), min(max(column, 0), width - 1)

    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    weights, places = {}, {}
    for row in range(height):
        for column in range(width):
            around = [
                at(row + d * y, column + d * x) for d in dilations for y, x in steps if y or x
            ]
            samples = [at(row + d * y, column + d * x) for d in dilations for y, x in steps]
            affinity = np.zeros(len(around))
            for colour in image:
                deviation = np.std([colour[place] for place in samples], ddof=1)
                for index, place in enumerate(around):
                    difference = abs(colour[row, column] - colour[place])
                    affinity[index] -= difference / (1e-8 + 0.1 * deviation) / len(image)
            exponentials = np.exp(affinity - affinity.max())
            weights[row, column] = exponentials / exponentials.sum()
            places[row, column] = around
    for _ in range(iterations):
        spread = np.zeros_like(masks)
        for (row, column), around in places.items():
            for weight, place in zip(weights[row, column], around, strict=True):
                spread[:, row, column] += weight * masks[(slice(None), *place)]
        masks = spread
    return torch.from_numpy(masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("size", "iterations", "dilations"),
    [((7, 9), 3, (1, 2)), ((5, 3), 10, ORIGINAL), ((1, 8), 2, (3,)), ((6, 6), 1, (2, 1, 2))],
)
def test_a_pixel_at_a_time(size, iterations, dilations, dtype, generator):
    masks = one_hot(3, size, generator)
    image = torch.rand(3, *size, generator=generator).double()
    found = pamr(masks.to(dtype), image.to(dtype), iterations, dilations)
    expected = reference(masks, image, iterations, dilations)
    assert found.dtype == dtype
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_faint_structure_is_as_good_as_strong(generator):
    """What counts is contrast in units of the local deviation, also on a bright, flat image."""
    masks = one_hot(2, (8, 8), generator).float()
    image = torch.randint(-128, 128, (3, 8, 8), generator=generator) / 2**20 + 0.75
    expected = reference(masks, image, 4, (1, 2))
    assert (pamr(masks, image, 4, (1, 2)) - expected).abs().max() < 1e-3
    assert (pamr(masks, 100 * (image - 0.75), 4, (1, 2)) - expected).abs().max() < 1e-3


def test_a_flat_image_averages_all_neighbours():
    mask = torch.zeros(1, 5, 5)
    mask[0, 2, 2] = 1
    ring = torch.ones(5, 5)
    ring[[0, -1]] = ring[:, [0, -1]] = ring[2, 2] = 0
    torch.testing.assert_close(pamr(mask, torch.full((3, 5, 5), 0.3), 1, [1])[0], ring / 8)


def test_nothing_crosses_a_wall():
    """A line wider than the farthest neighbour, black between white: what is beyond stays out."""
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(3)) * 0.01
    image[:, :, 14:] += 0.9
    mask = torch.zeros(1, 20, 30)
    mask[:, :, 14:] = 1
    assert (pamr(mask, image, 10, (1, 2, 4)) - mask).abs().max() < 0.02


def test_shares_stay_shares(generator):
    masks = one_hot(4, (12, 17), generator).float()
    found = pamr(masks, torch.rand(3, 12, 17, generator=generator))
    torch.testing.assert_close(found.sum(0), torch.ones(12, 17), atol=1e-5, rtol=0)
    assert found.min() >= 0
    assert torch.equal(pamr(masks, torch.rand(3, 12, 17), 0), masks)


def test_the_assigner_uses_its_options(generator):
    masks = one_hot(2, (9, 9), generator).float()
    image = torch.rand(3, 9, 9, generator=generator)
    found = PAMRAssigner(iterations=2, dilations=[3, 1]).refine(masks, image)
    assert torch.equal(found, pamr(masks, image, 2, (3, 1)))
    default = PAMRAssigner()
    assert torch.equal(default.refine(masks, image), pamr(masks, image, 10, ORIGINAL))
    assert "iterations=10, dilations=(1, 2, 4, 8, 12, 24), max_side=256" in repr(default)
