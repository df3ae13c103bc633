"""The guided filter against least squares in every window."""

import numpy as np
import pytest
import torch

from diffsegkit_refine import GuidedFilterAssigner, guided_filter
from refine_cases import one_hot


def reference(mask, image, radius, epsilon):
    """He et al., equations 11 to 16: a ridge regression per window, then the mean of the windows."""
    mask, image = mask.double().numpy(), image.double().numpy()
    colours, height, width = image.shape
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            rows = slice(max(0, row - radius), row + radius + 1)
            columns = slice(max(0, column - radius), column + radius + 1)
            own = image[:, rows, columns].reshape(colours, -1)
            number = own.shape[1]
            # The penalty as further equations, sqrt(number * epsilon) * slope = 0.
            penalty = np.sqrt(number * epsilon) * np.eye(colours)
            left = np.block([[own.T, np.ones((number, 1))], [penalty, np.zeros((colours, 1))]])
            right = np.concatenate([mask[rows, columns].ravel(), np.zeros(colours)])
            *slopes, offset = np.linalg.lstsq(left, right, rcond=None)[0]
            fitted = np.tensordot(np.array(slopes), image[:, rows, columns], 1) + offset
            total[rows, columns] += fitted
            count[rows, columns] += 1
    return torch.from_numpy(total / count)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("size", "radius", "epsilon"),
    [((7, 9), 1, 1e-2), ((6, 5), 2, 1e-4), ((4, 3), 9, 1e-3), ((1, 8), 2, 1e-3)],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_least_squares_in_every_window(size, radius, epsilon, colours, dtype, generator):
    masks = one_hot(3, size, generator)
    image = torch.rand(colours, *size, generator=generator, dtype=torch.float64)
    found = guided_filter(masks.to(dtype), image.to(dtype), radius, epsilon)
    expected = torch.stack([reference(mask, image, radius, epsilon) for mask in masks])
    assert found.dtype == dtype
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_a_faint_image_far_from_zero(generator):
    """Variances are of deviations: what is added to all colours changes nothing."""
    masks = one_hot(2, (6, 7), generator)
    image = torch.rand(3, 6, 7, generator=generator, dtype=torch.float64) * 1e-3
    expected = guided_filter(masks, image, 2, 1e-8)
    found = guided_filter(masks, image + 1000, 2, 1e-8)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_what_is_linear_in_the_image_stays(generator):
    image = torch.rand(3, 9, 12, generator=generator, dtype=torch.float64)
    linear = (0.2 * image[0] - 0.5 * image[1] + 0.7 * image[2] + 0.1)[None]
    torch.testing.assert_close(guided_filter(linear, image, 3, 1e-12), linear, atol=1e-7, rtol=0)


def test_without_contrast_it_is_two_box_filters():
    mask = torch.zeros(1, 9, 9)
    mask[0, 4, 4] = 1
    found = guided_filter(mask, torch.full((3, 9, 9), 0.3), 1, 1e-4)
    tent = torch.tensor([0.0, 0, 1, 2, 3, 2, 1, 0, 0]) / 9
    torch.testing.assert_close(found[0], tent[:, None] * tent)


def test_the_assigner_uses_its_options(generator):
    masks = one_hot(2, (9, 9), generator).float()
    image = torch.rand(3, 9, 9, generator=generator)
    found = GuidedFilterAssigner(radius=2, epsilon=0.01).refine(masks, image)
    assert torch.equal(found, guided_filter(masks, image, 2, 0.01))
    assert "radius=32, epsilon=0.0001, max_side=256" in repr(GuidedFilterAssigner())
