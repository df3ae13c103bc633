"""Votes of superpixels against counting."""

import sys
from collections import Counter

import pytest
import torch
from skimage.segmentation import felzenszwalb

from diffsegkit.errors import ComponentError
from diffsegkit_refine import SuperpixelAssigner
from refine_cases import disc, one_hot


def test_each_superpixel_goes_to_the_segment_that_has_most_of_it(generator):
    image, _ = disc((40, 60), noise=0.1)
    masks = one_hot(3, (8, 12), generator).float().repeat_interleave(5, 1).repeat_interleave(5, 2)
    found = SuperpixelAssigner(scale=30, sigma=0.5, min_size=10).refine(masks, image)
    parts = felzenszwalb(image.permute(1, 2, 0).double().numpy(), scale=30, sigma=0.5, min_size=10)
    assert parts.max() > 10
    labels = masks.argmax(0)
    for part in range(parts.max() + 1):
        inside = torch.from_numpy(parts == part)
        votes = Counter(labels[inside].tolist())
        expected = torch.tensor([votes[label] for label in range(3)]) / int(inside.sum())
        torch.testing.assert_close(
            found[:, inside], expected[:, None].expand(-1, int(inside.sum()))
        )


def test_the_size_of_superpixels_is_an_option(generator):
    image = torch.rand(3, 30, 40, generator=generator)
    masks = one_hot(2, (30, 40), generator).float()
    fine = SuperpixelAssigner(scale=1, min_size=2).refine(masks, image)
    large = SuperpixelAssigner(scale=1, min_size=100).refine(masks, image)
    assert len(large[0].unique()) < len(fine[0].unique()) < 600
    assert "scale=100.0, sigma=0.8, min_size=20, max_side=512" in repr(SuperpixelAssigner())


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ComponentError, match=r"pip install 'diffsegkit-refine\[superpixels\]'"):
        SuperpixelAssigner()
