"""Joint bilateral upsampling against loops over pixels and cells."""

from math import exp

import pytest
import torch

from diffsegkit import Proposals
from diffsegkit_refine import BilateralAssigner, bilateral_upsampling
from diffsegkit_refine.soft import soft_masks
from refine_cases import random_proposals, seen


def reference(values, guide, radius, sigma_space, sigma_colour):
    """Kopf et al., equation 3, for sides of the image that are multiples of the grid's."""
    values, guide = values.double(), guide.double()
    (height, width), (rows, columns) = guide.shape[1:], values.shape[1:]
    tall, wide = height // rows, width // columns
    cells = torch.stack([
        torch.stack([
            guide[:, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].mean((1, 2))
            for j in range(columns)
        ])
        for i in range(rows)
    ])  # fmt: skip
    found = torch.zeros(len(values), height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            up, left = (y + 0.5) / tall - 0.5, (x + 0.5) / wide - 0.5
            weights, total = 0.0, torch.zeros(len(values), dtype=torch.float64)
            for i in range(rows):
                for j in range(columns):
                    if max(abs(i - up), abs(j - left)) > radius + 0.5:
                        continue
                    near = exp(-((i - up) ** 2 + (j - left) ** 2) / (2 * sigma_space**2))
                    contrast = float((guide[:, y, x] - cells[i, j]).square().sum())
                    weight = near * (exp(-contrast / (2 * sigma_colour**2)) + 1e-6)
                    weights += weight
                    total += weight * values[:, i, j]
            found[:, y, x] = total / weights
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("grid", "size", "radius", "space", "colour"),
    [((3, 4), (12, 20), 1, 1.0, 0.3), ((4, 3), (12, 9), 2, 1.5, 0.1), ((2, 5), (2, 5), 1, 0.7, 0.5), ((1, 1), (4, 6), 3, 1.0, 0.1)],
)  # fmt: skip
def test_a_pixel_at_a_time(grid, size, radius, space, colour, dtype, generator):
    """Each cell has a whole number of pixels here, so that its colour is their plain mean."""
    values = torch.rand(3, *grid, generator=generator, dtype=torch.float64)
    guide = torch.rand(3, *size, generator=generator, dtype=torch.float64)
    found = bilateral_upsampling(values.to(dtype), guide.to(dtype), radius, space, colour)
    expected = reference(values, guide, radius, space, colour)
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("cells", "pixels"), [(2, 3), (4, 6), (6, 9), (7, 5), (25, 321)])
def test_pixels_between_two_cells_lean_to_neither(cells, pixels, generator):
    values = torch.rand(2, cells, cells, generator=generator, dtype=torch.float64)
    guide = torch.rand(3, pixels, pixels, generator=generator, dtype=torch.float64)
    found = bilateral_upsampling(values, guide, 1, 1.0, 0.2)
    for axes in ((1,), (2,), (1, 2)):
        mirrored = bilateral_upsampling(values.flip(axes), guide.flip(axes), 1, 1.0, 0.2)
        torch.testing.assert_close(mirrored.flip(axes), found, atol=1e-9, rtol=0)


def test_a_pixel_unlike_all_others_takes_what_is_near():
    values = torch.tensor([[[1.0, 0.0, 0.0]]])
    guide = torch.zeros(3, 3, 9)
    guide[:, 1, 4] = 1  # its own cell in the middle is nearly black too
    found = bilateral_upsampling(values, guide, 1, 0.5, 0.01)
    assert torch.isfinite(found).all()
    assert found[0, 1, 4] < 0.2
    assert found[0, 1, 0] > 0.8


def test_shares_of_scores_of_any_sign():
    scores = torch.tensor([[[-1.0, 3.0]], [[-1.0, 1.0]]])
    shares = soft_masks(Proposals(torch.full((2, 1, 2), 0.5), scores=scores), (1, 2))
    torch.testing.assert_close(shares[:, 0], torch.tensor([[0.5, 4 / 6], [0.5, 2 / 6]]))
    maps = torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]]])
    shares = soft_masks(Proposals(maps), (1, 2))
    torch.testing.assert_close(shares[0, 0], torch.tensor([0.6, 0.2]))


def test_on_a_flat_image_a_cell_keeps_its_centre(generator):
    """Not labels are upsampled but shares, and the nearest counts most."""
    proposals = random_proposals(3, (4, 6), generator)
    flat = seen(torch.full((1, 3, 40, 60), 0.5))
    [labels] = BilateralAssigner(radius=1, sigma_space=0.3)([proposals], (40, 60), aggregated=flat)
    shares = proposals.maps / proposals.maps.sum(0)
    assert torch.equal(labels[4::10, 4::10], shares.argmax(0))


def test_the_assigner_uses_its_options(generator):
    proposals = random_proposals(4, (3, 5), generator)
    images = torch.rand(1, 3, 30, 50, generator=generator)
    [labels] = BilateralAssigner(2, 0.8, 0.2)([proposals], (30, 50), aggregated=seen(images))
    shares = proposals.maps / proposals.maps.sum(0)
    expected = bilateral_upsampling(shares, images[0], 2, 0.8, 0.2).argmax(0)
    assert torch.equal(labels, expected)
    assert "radius=3, sigma_space=1.5, sigma_colour=0.05, max_side=256" in repr(BilateralAssigner())
