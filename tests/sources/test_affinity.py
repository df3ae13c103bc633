"""The source that needs no weights."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from diffsegkit.sources import AffinitySource


def by_name(output):
    return {attention.name: attention for attention in output.attention}


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((512, 512), [(64, 64), (32, 32), (16, 16), (8, 8)]),
        ((320, 512), [(40, 64), (20, 32), (10, 16), (5, 8)]),
        ((512, 64), [(64, 8), (32, 4), (16, 2), (8, 1)]),
        ((100, 75), [(64, 48), (32, 24), (16, 12), (8, 6)]),
        ((1, 1), [(64, 64), (32, 32), (16, 16), (8, 8)]),
    ],
)
def test_grids(size, grids):
    output = AffinitySource()(torch.rand(1, 3, *size))
    assert [attention.grid for attention in output.attention] == grids


def test_a_batch_is_a_loop(generator):
    images = torch.rand(3, 3, 64, 96, generator=generator)
    together = AffinitySource(cells=(16, 8))(images)
    for index, image in enumerate(images):
        alone = AffinitySource(cells=(16, 8))(image[None])
        for one, many in zip(alone.attention, together.attention, strict=True):
            torch.testing.assert_close(one.probs[0], many.probs[index])


def test_colour_alone_is_the_distance_in_cielab(generator):
    """Against scikit-image's conversion, on cells of one pixel."""
    image = torch.rand(1, 3, 6, 8, generator=generator)
    source = AffinitySource(
        cells=(8,), lightness=1, texture=0, position=0, saturation=1e4, temperature=0.5
    )
    lab = torch.from_numpy(rgb2lab(image[0].permute(1, 2, 0).double().numpy())).reshape(48, 3)
    expected = torch.softmax(-torch.cdist(lab, lab) / 25 / 0.5, -1)
    found = source(image).attention[0].probs[0].double()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_position_alone_by_hand():
    source = AffinitySource(
        cells=(2,), colour=0, texture=0, position=1, saturation=1e4, temperature=1
    )
    # Two cells, 1/2 of the longer side apart; the rest of a 2 x 1 grid is nothing.
    expected = torch.softmax(torch.tensor([[0.0, -0.5], [-0.5, 0.0]]), -1)
    torch.testing.assert_close(source(torch.rand(1, 3, 4, 8)).attention[0].probs[0], expected)


def test_texture_tells_stripes_from_plain_of_the_same_colour():
    image = torch.full((1, 3, 128, 256), 0.5)
    image[..., :128] += 0.3 * torch.tensor([1.0, -1.0]).repeat(64)[:, None].expand(128, 128)
    source = AffinitySource(cells=(16,), lightness=0, colour=0, position=0)
    probs = source(image).attention[0].probs[0].reshape(8, 16, 8, 16)
    assert probs[4, 3, :, :8].sum() > 0.9
    assert probs[4, 12, :, 8:].sum() > 0.9


def test_mirroring_the_photo_mirrors_the_attention(generator):
    image = torch.rand(1, 3, 64, 64, generator=generator)
    plain = AffinitySource(cells=(8,))(image).attention[0].probs.reshape(8, 8, 8, 8)
    mirrored = AffinitySource(cells=(8,))(image.flip(-1)).attention[0].probs.reshape(8, 8, 8, 8)
    torch.testing.assert_close(mirrored.flip(1, 3), plain, atol=1e-5, rtol=1e-3)


def test_distances_saturate():
    """Black, grey and white: the ends are no further apart than the saturation."""
    image = torch.tensor([0.0, 0.4, 1.0]).expand(1, 3, 1, 3)
    source = AffinitySource(cells=(3,), lightness=1, texture=0, position=0, saturation=0.5)
    distances = -source(image).attention[0].probs[0].log() * source.temperature
    distances = distances - distances.diagonal()[:, None]
    assert 0.45 < distances[0, 1] < distances[0, 2] < 0.5


def test_a_blank_photo_has_no_infinite_or_missing_values():
    for value in (0.0, 0.5, 1.0):
        output = AffinitySource()(torch.full((1, 3, 64, 64), value))
        assert all(torch.isfinite(attention.probs).all() for attention in output.attention)


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
        for name in ("colour", "lightness", "texture", "position", "saturation", "temperature")
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
        ({"saturation": float("inf")}, "`saturation` above 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        AffinitySource(**options)
