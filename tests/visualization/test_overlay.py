"""Overlays and their colours."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit.visualization import draw_overlay, neighbour_colours


def test_neighbours_can_be_told_apart():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(100).reshape(10, 10), np.ones((4, 4), dtype=int))
    colours = neighbour_colours(labels).astype(int)
    assert colours.shape == (100, 3)
    for first, second in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        differ = first != second
        gaps = np.linalg.norm(colours[first[differ]] - colours[second[differ]], axis=-1)
        assert gaps.min() > 60


def test_few_segments_have_few_surprises():
    assert neighbour_colours(np.zeros((3, 3), dtype=int)).shape == (1, 3)
    four = neighbour_colours(np.arange(4).reshape(2, 2))
    assert len(np.unique(four, axis=0)) == 4


def test_colours_and_outlines():
    labels = torch.zeros(60, 80, dtype=torch.int64)
    labels[:, 40:] = 1
    grey = np.full((60, 80, 3), 100, dtype=np.uint8)
    picture = np.asarray(draw_overlay(grey, labels))
    table = neighbour_colours(labels.numpy())
    assert np.array_equal(picture[30, 10], np.rint(100 + (table[0] - 100.0) * 0.5))
    assert np.array_equal(picture[30, 70], np.rint(100 + (table[1] - 100.0) * 0.5))
    assert (picture[:, 39] == 255).all()  # the outline
    assert (picture[:, 38] == 0).all()  # and its dark side
    plain = np.asarray(draw_overlay(grey, torch.zeros_like(labels), opacity=0))
    assert (plain == 100).all()


def test_strips_of_rows_join(photo):
    tall = np.concatenate([photo] * 8)
    labels = torch.zeros(tall.shape[:2], dtype=torch.int64)
    picture = np.asarray(draw_overlay(tall, labels, opacity=0))
    assert np.array_equal(picture, tall)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 1)])
def test_tiny(size):
    labels = torch.arange(size[0] * size[1]).reshape(size)
    assert draw_overlay(np.zeros((*size, 3), np.uint8), labels).size == size[::-1]


def test_any_image_of_the_right_size(photo):
    labels = torch.zeros(90, 120, dtype=torch.int64)
    from_float = draw_overlay(torch.from_numpy(photo).permute(2, 0, 1) / 255, labels)
    assert np.array_equal(np.asarray(from_float), np.asarray(draw_overlay(photo, labels)))
    with pytest.raises(ValueError, match=r"\(90, 120\).*but got one of \(50, 40\)"):
        draw_overlay(Image.new("RGB", (40, 50)), labels)
    with pytest.raises(ValueError, match="`opacity` between 0 and 1"):
        draw_overlay(photo, labels, opacity=2)
