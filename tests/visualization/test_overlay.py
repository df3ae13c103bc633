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


def written(labels, name, label):
    """Where the name of one segment is written: left, top, right, bottom."""
    names = ["" for _ in range(int(labels.max()) + 1)]
    grey = np.full((*labels.shape, 3), 120, np.uint8)
    plain = np.asarray(draw_overlay(grey, labels, names=names))
    names[label] = name
    rows, columns = (np.asarray(draw_overlay(grey, labels, names=names)) != plain).any(2).nonzero()
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_name_is_written_where_its_segment_is_widest():
    labels = torch.zeros(300, 400, dtype=torch.int64)
    labels[100:200, 250:350] = 1
    labels[140:160, 50:250] = 1  # a handle
    left, top, right, bottom = written(labels, "pan", 1)
    assert abs((left + right) / 2 - 300) < 5
    assert abs((top + bottom) / 2 - 150) < 5


def test_a_small_segment_of_a_large_photo_has_its_name_too():
    labels = torch.zeros(900, 1200, dtype=torch.int64)
    labels[301:303, 401:403] = 1  # none of its pixels is among each fourth
    left, top, right, bottom = written(labels, "bird", 1)
    assert abs((left + right) / 2 - 402) < 5
    assert abs((top + bottom) / 2 - 302) < 10


def test_names_at_the_edge_are_whole():
    middle = torch.zeros(200, 300, dtype=torch.int64)
    box = written(middle, "surfboard", 0)
    size = (box[2] - box[0], box[3] - box[1])
    for edge in (np.s_[:, :4], np.s_[:, -4:], np.s_[:4], np.s_[-4:]):
        labels = middle.clone()
        labels[edge] = 1
        left, top, right, bottom = written(labels, "surfboard", 1)
        # Black strokes on black outlines, and white letters on white ones, do not differ.
        assert right - left >= size[0] - 4
        assert bottom - top >= size[1] - 4
        # In the middle of the stripe, where fewer names meet than at its ends.
        is_upright = bool(labels[0, 150] == 0 and labels[-1, 150] == 0)
        assert abs((top + bottom) / 2 - 100 if is_upright else (left + right) / 2 - 150) < 8
    assert written(middle, "surf\nboard", 0) == written(middle, "surf board", 0)


def test_any_image_of_the_right_size(photo):
    labels = torch.zeros(90, 120, dtype=torch.int64)
    from_float = draw_overlay(torch.from_numpy(photo).permute(2, 0, 1) / 255, labels)
    assert np.array_equal(np.asarray(from_float), np.asarray(draw_overlay(photo, labels)))
    with pytest.raises(ValueError, match=r"\(90, 120\).*but got one of \(50, 40\)"):
        draw_overlay(Image.new("RGB", (40, 50)), labels)
    with pytest.raises(ValueError, match="`opacity` between 0 and 1"):
        draw_overlay(photo, labels, opacity=2)
