"""The source that needs no weights."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from diffsegkit import Segmenter
from diffsegkit.sources import AffinitySource


def by_name(output):
    return {attention.name: attention for attention in output.attention}


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((512, 512), [(64, 64), (32, 32)]),
        ((320, 512), [(40, 64), (20, 32)]),
        ((512, 64), [(64, 8), (32, 4)]),
        ((512, 8), [(64, 1), (32, 1)]),
        ((100, 75), [(64, 48), (32, 24)]),
        ((1, 1), [(64, 64), (32, 32)]),
    ],
)
def test_grids(size, grids):
    output = AffinitySource()(torch.rand(1, 3, *size))
    assert [attention.grid for attention in output.attention] == grids


def test_a_batch_is_a_loop(generator):
    """To the bit: a difference of rounding could turn the order of merging round."""
    images = torch.rand(3, 3, 64, 96, generator=generator)
    together = AffinitySource(cells=(16, 8))(images)
    for index, image in enumerate(images):
        alone = AffinitySource(cells=(16, 8))(image[None])
        for one, many in zip(alone.attention, together.attention, strict=True):
            assert torch.equal(one.probs[0], many.probs[index])


def test_the_same_photo_gives_the_same_attention(generator):
    image = torch.rand(1, 3, 64, 96, generator=generator)
    one, other = (AffinitySource(cells=(16,))(image).attention[0].probs for _ in range(2))
    assert torch.equal(one, other)


def test_one_cell_attends_to_itself(generator):
    [attention] = AffinitySource(cells=(1,))(torch.rand(2, 3, 5, 5, generator=generator)).attention
    assert torch.equal(attention.probs, torch.ones(2, 1, 1))


def test_two_colours_by_hand():
    """Two cells are one merge, whose cost is known, against scikit-image's CIELAB."""
    colours = torch.tensor([[0.6, 0.5, 0.4], [0.5, 0.5, 0.5]])
    source = AffinitySource(
        cells=(2,), lightness=1, texture=0, contour=0.5, scale=0.7, temperature=0.3
    )
    probs = source(colours.T[None, :, None, :]).attention[0].probs[0]
    lab = rgb2lab(colours[None].double().numpy())[0]
    squared = (np.linalg.norm(lab[0] - lab[1]) / 25) ** 2
    # Windows beyond the border repeat it, so the contour is the difference itself.
    cost = 0.5 * 0.5 * 1.5 * (1 - np.exp(-squared)) / 0.5**0.25
    spread = squared**0.5 / 2
    distance = 1 - np.exp(-((cost / spread / 0.7) ** 2))
    expected = 1 / (1 + np.exp(-distance / 0.3))
    np.testing.assert_allclose(probs.diagonal().numpy(), expected, rtol=1e-3)


def mass_by_side(image, **options):
    """Attention that stays in the half where it starts, cell by cell: ``(h, w)``."""
    [attention] = AffinitySource(cells=(16,), **options)(image).attention
    rows, columns = attention.grid
    maps = attention.probs[0].reshape(rows, columns, rows, columns)
    half = columns // 2
    left, right = maps[..., :half].sum((2, 3)), maps[..., half:].sum((2, 3))
    return torch.cat([left[:, :half], right[:, half:]], dim=1)


def test_texture_tells_stripes_from_plain_of_the_same_colour():
    image = torch.full((1, 3, 128, 256), 0.5)
    image[..., :128] += 0.3 * torch.tensor([1.0, -1.0]).repeat(64)[:, None].expand(128, 128)
    assert mass_by_side(image, lightness=0, colour=0).median() > 0.9


def test_a_thin_line_parts_two_halves_of_one_colour():
    """Regions are connected: alike is not enough, unless a way leads from one to the other."""
    image = torch.full((1, 3, 128, 256), 0.7)
    image[..., 124:132] = 0.0
    assert mass_by_side(image, texture=0).median() > 0.9
    image[..., 32:96, :] = 0.7
    assert mass_by_side(image, texture=0).median() < 0.6


@pytest.mark.parametrize(("dark", "bright"), [(0.4, 0.6), (0.2, 0.8), (0.0, 1.0)])
def test_a_smooth_gradient_is_not_parted_like_a_step(dark, bright):
    """Halves of the same two means: a contour runs along a step, and none along a slope."""
    slope = torch.linspace(dark, bright, 256).expand(1, 3, 128, 256)
    means = slope.reshape(1, 3, 128, 2, 128).mean(-1, keepdim=True)
    step = means.expand(-1, -1, -1, -1, 128).reshape(1, 3, 128, 256)
    on_slope, on_step = (mass_by_side(image, scale=0.5).median() for image in (slope, step))
    assert 1 - on_slope > 5 * (1 - on_step)


def test_a_smooth_gradient_stays_in_few_segments():
    slope = np.linspace(0.2, 0.8, 256, dtype=np.float32)[None, :, None].repeat(160, 0).repeat(3, 2)
    [result] = Segmenter.from_preset("affinity")(slope)
    assert len(result.proposals) <= 2


def test_a_spot_belongs_to_its_surroundings_and_a_large_square_does_not():
    image = torch.full((1, 3, 256, 256), 0.5)
    image[:, 0, 32:48, 32:48] = 1.0
    image[:, 2, 128:240, 128:240] = 1.0
    maps = AffinitySource(cells=(16,))(image).attention[0].probs[0].reshape(16, 16, 16, 16)
    background, spot, square = maps[8, 3], maps[2, 2], maps[11, 11]
    assert (spot - background).abs().sum() < 0.3
    assert (square - background).abs().sum() > 1.5


def test_mirroring_the_photo_mirrors_the_attention(generator):
    image = torch.rand(1, 3, 64, 64, generator=generator)
    plain = AffinitySource(cells=(8,))(image).attention[0].probs.reshape(8, 8, 8, 8)
    mirrored = AffinitySource(cells=(8,))(image.flip(-1)).attention[0].probs.reshape(8, 8, 8, 8)
    torch.testing.assert_close(mirrored.flip(1, 3), plain, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_a_blank_photo_attends_evenly(noise, generator):
    for value in (0.0, 0.5, 1.0):
        image = (value + noise * torch.randn(1, 3, 64, 64, generator=generator)).clamp(0, 1)
        for attention in AffinitySource()(image).attention:
            cells = attention.grid[0] * attention.grid[1]
            assert (attention.probs * cells - 1).abs().max() < 0.5


@pytest.mark.parametrize(
    ("colours", "segments"), [([[0.5] * 3] * 2, 1), ([[0.2, 0.4, 0.6], [0.7, 0.6, 0.3]], 2)]
)
def test_the_preset_finds_as_many_segments_as_there_are_colours(colours, segments):
    photo = np.repeat(np.array(colours, dtype=np.float32), [60, 40], axis=0)[None].repeat(80, 0)
    [result] = Segmenter.from_preset("affinity")(photo)
    assert len(result.proposals) == segments
    truth = np.arange(100) >= 60 if segments == 2 else np.zeros(100)
    assert (result.labels.numpy() == truth).mean() > 0.95


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32_attention_close_to_the_full_one(dtype, generator):
    image = torch.rand(1, 3, 64, 64, generator=generator)
    full = AffinitySource(cells=(8,))(image).attention[0].probs
    half = AffinitySource(cells=(8,))(image.to(dtype)).attention[0].probs
    assert half.dtype == torch.float32
    assert np.abs((half - full).numpy()).max() < 0.05


def test_the_fingerprint_tells_settings_apart():
    assert AffinitySource().fingerprint() == AffinitySource().fingerprint()
    others = {
        AffinitySource(**{name: 0.55}).fingerprint()
        for name in ("colour", "lightness", "texture", "contour", "scale", "temperature")
    }
    assert len(others | {AffinitySource().fingerprint()}) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": ()}, "one or more positive numbers"),
        ({"cells": (8, 0)}, "positive numbers"),
        ({"texture": -1}, "`texture` to be at least 0"),
        ({"colour": float("nan")}, "`colour`"),
        ({"temperature": 0}, "`temperature` above 0"),
        ({"scale": float("inf")}, "`scale` above 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        AffinitySource(**options)
