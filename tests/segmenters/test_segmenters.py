"""Whole methods: the baselines, and what a subclass gets for one method."""

import builtins

import numpy as np
import pytest
import skimage.segmentation
import torch

from diffsegkit.errors import ComponentError, ImageError
from diffsegkit.segmenters import SLIC, Felzenszwalb, ImageSegmenter, OneSegment


class Stripes(ImageSegmenter):
    """Ids with gaps."""

    def label_map(self, image):
        return (torch.arange(image.shape[2]) // 4 * 10).expand(image.shape[1:])


def test_one_method_is_abstract():
    assert ImageSegmenter.__abstractmethods__ == {"label_map"}


def test_a_subclass(photo):
    [segmentation] = Stripes()(photo)
    assert segmentation.labels.shape == (90, 120)
    assert segmentation.labels.dtype == torch.int64
    assert segmentation.num_segments == 30
    assert segmentation.labels.unique().tolist() == list(range(30))
    assert segmentation.proposals is None
    assert set(segmentation.times) == {"segment"}


def test_many_images_of_different_sizes(photo):
    results = Stripes()(
        [photo, photo[:20, :8]], num_segments=[1, 2], prompts=["", ""], batch_size=2
    )
    assert [tuple(result.labels.shape) for result in results] == [(90, 120), (20, 8)]
    with pytest.raises(ImageError, match="at least one image"):
        Stripes()([])


def test_label_maps_that_do_not_fit(photo):
    class Wrong(Stripes):
        def label_map(self, image):
            return self.result

    for Wrong.result in (torch.zeros(3, 4, dtype=torch.int64), torch.zeros(90, 120)):
        with pytest.raises(ValueError, match=r"expected integers of shape \(90, 120\)"):
            Wrong()(photo)


def test_one_segment(photo):
    [segmentation] = OneSegment()(photo)
    assert segmentation.num_segments == 1


def same_partition(first, second):
    return (
        len(np.unique(np.stack([first.ravel(), second.ravel()]), axis=1).T)
        == len(np.unique(first))
        == len(np.unique(second))
    )


def test_felzenszwalb_is_scikit_images(photo):
    [segmentation] = Felzenszwalb(scale=300, sigma=0.5, min_size=30)(photo)
    expected = skimage.segmentation.felzenszwalb(photo, scale=300, sigma=0.5, min_size=30)
    assert segmentation.num_segments > 1
    assert same_partition(segmentation.labels.numpy(), expected)


def test_slic_is_scikit_images(photo):
    [segmentation] = SLIC(num_segments=9, compactness=5)(photo)
    expected = skimage.segmentation.slic(photo, n_segments=9, compactness=5)
    assert segmentation.num_segments > 1
    assert same_partition(segmentation.labels.numpy(), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Felzenszwalb(scale=0),
        lambda: Felzenszwalb(min_size=-1),
        lambda: SLIC(num_segments=0),
        lambda: SLIC(compactness=0),
    ],
)
def test_arguments_out_of_range(make):
    with pytest.raises(ValueError, match="Expected"):
        make()


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("skimage"):
            raise ModuleNotFoundError("No module named 'skimage'", name="skimage")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ComponentError,
        match=r"Felzenszwalb needs scikit-image: pip install 'diffsegkit\[baselines\]'",
    ):
        Felzenszwalb()
