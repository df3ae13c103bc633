"""What the tests of the loop share."""

import pytest

from tests.data import layouts
from tests.evaluation.tiny import own_process  # noqa: F401


@pytest.fixture
def folder(tmp_path):
    """Seven images and labels: more than any sensible number of processes divides."""
    root = tmp_path / "set"
    for number in range(7):
        stored = layouts.quarters([0, 1, 2, 255], number)
        stored[: 4 * number, 8:20] = number % 3
        layouts.write_image(root / "images" / f"image{number}.png", stored)
        layouts.write_label(root / "labels" / f"image{number}.png", stored)
    return root


@pytest.fixture
def data(folder):
    """The command line's way to the seven images."""
    return [
        "--data",
        "Folder",
        "--data.images",
        folder / "images",
        "--data.labels",
        folder / "labels",
    ]
