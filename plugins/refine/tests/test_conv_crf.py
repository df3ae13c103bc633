"""Mean-field inference against that of a dense CRF, all pairs of pixels in one matrix."""

import pytest
import torch

from diffsegkit_refine import ConvCRFAssigner, mean_field

OPTIONS = {"sigma_space": 3.0, "sigma_colour": 0.2, "appearance": 4.0, "smoothness": 1.5}


def reference(unary, image, iterations, radius, dilation, sigma_space, sigma_colour, appearance, smoothness):  # fmt: skip
    """Krähenbühl and Koltun's algorithm 1 with a Potts model; pairs out of the window have no link."""
    unary, image = unary.double(), image.double()
    height, width = unary.shape[1:]
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    colours = image.flatten(1).mT
    steps = (places[:, None] - places) / dilation
    linked = (steps == steps.round()).all(2) & (steps.abs() <= radius).all(2)
    linked.fill_diagonal_(False)
    distance = (places[:, None] - places).square().sum(2)
    contrast = (colours[:, None] - colours).square().sum(2)
    looks = torch.exp(-distance / (2 * sigma_space**2) - contrast / (2 * sigma_colour**2)) * linked
    near = torch.exp(-distance / (2 * dilation**2)) * linked
    kernel = appearance * looks / looks.sum(1, keepdim=True).clamp_min(1e-12)
    kernel += smoothness * near / near.sum(1, keepdim=True).clamp_min(1e-12)
    energy = -unary.flatten(1)
    probs = torch.softmax(-energy, 0)
    for _ in range(iterations):
        # Compatibility: a pixel pays for each neighbour that has another label.
        message = probs @ kernel.mT
        pairwise = message.sum(0, keepdim=True) - message
        probs = torch.softmax(-energy - pairwise, 0)
    return probs.reshape(unary.shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("size", "radius", "dilation"), [((6, 8), 8, 1), ((6, 8), 2, 1), ((9, 7), 2, 3), ((1, 5), 2, 1)]
)
def test_a_dense_matrix(size, radius, dilation, dtype, generator):
    """With the radius of the first case each pixel sees all others: the fully connected CRF."""
    unary = torch.randn(3, *size, generator=generator, dtype=torch.float64)
    image = torch.rand(3, *size, generator=generator, dtype=torch.float64)
    window = {"iterations": 5, "radius": radius, "dilation": dilation}
    found = mean_field(unary.to(dtype), image.to(dtype), **window, **OPTIONS)
    expected = reference(unary, image, **window, **OPTIONS)
    assert found.dtype == dtype
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_without_neighbours_or_iterations_nothing_changes(generator):
    unary = torch.randn(2, 4, 5, generator=generator)
    image = torch.rand(3, 4, 5, generator=generator)
    window = {"radius": 1, "dilation": 1}
    nothing = OPTIONS | {"appearance": 0.0, "smoothness": 0.0}
    probs = unary.softmax(0)
    assert torch.equal(mean_field(unary, image, iterations=0, **window, **OPTIONS), probs)
    torch.testing.assert_close(mean_field(unary, image, iterations=5, **window, **nothing), probs)
    lonely = mean_field(unary[:, :1, :1], image[:, :1, :1], iterations=5, **window, **OPTIONS)
    torch.testing.assert_close(lonely, probs[:, :1, :1])


def test_the_labels_of_an_assigner_are_believed_to_a_degree():
    """One odd pixel in the middle of a flat image goes with its neighbours, or stays if sure."""
    masks = torch.zeros(3, 5, 5)
    masks[0], masks[0, 2, 2], masks[1, 2, 2] = 1, 0, 1
    masks[2, 0, 0], masks[0, 0, 0] = 1, 0
    image = torch.full((3, 5, 5), 0.4)
    options = {"radius": 1, "dilation": 1, "appearance": 2.0, "smoothness": 0.0}
    assert ConvCRFAssigner(**options).refine(masks, image).argmax(0)[2, 2] == 0
    sure = ConvCRFAssigner(**options, confidence=0.99).refine(masks, image)
    assert sure.argmax(0)[2, 2] == 1
    untouched = ConvCRFAssigner(iterations=0, confidence=0.6).refine(masks, image)
    torch.testing.assert_close(untouched, 0.2 + 0.4 * masks)


def test_the_assigner_uses_its_options(generator):
    masks = torch.eye(2)[torch.randint(2, (6, 9), generator=generator)].permute(2, 0, 1)
    image = torch.rand(3, 6, 9, generator=generator)
    assigner = ConvCRFAssigner(3, 2, 2, confidence=0.8, **OPTIONS)
    unary = (0.2 + 0.6 * masks).log()
    expected = mean_field(unary, image, iterations=3, radius=2, dilation=2, **OPTIONS)
    torch.testing.assert_close(assigner.refine(masks, image), expected)
    assert "iterations=3, radius=2, dilation=2, sigma_space=3.0, sigma_colour=0.2" in repr(assigner)
