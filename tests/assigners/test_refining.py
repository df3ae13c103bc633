"""Refining: what the refiner is given, and what becomes of what it gives."""

import pytest
import torch
from torch.nn import functional

from diffsegkit import (
    AggregatedAttention,
    AttentionSource,
    Merger,
    Proposals,
    Segmenter,
    SourceOutput,
)
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner, RefiningAssigner, guide_images
from diffsegkit.errors import UsageError
from diffsegkit.sources import AffinitySource


class Unchanged(RefiningAssigner):
    """Gives its masks back, and remembers what it was given."""

    def refine(self, masks, image):
        self.masks, self.image = masks, image
        return masks


class Shifted(RefiningAssigner):
    """Moves everything one pixel to the right."""

    def refine(self, masks, image):
        return functional.pad(masks, (1, 0), mode="replicate")[..., :-1]


def random_proposals(number, grid, seed=0):
    maps = torch.rand(number, *grid, generator=torch.Generator().manual_seed(seed))
    return Proposals(maps / maps.sum((1, 2), keepdim=True))


def aggregated(images, grid=(2, 2), proposals=None):
    probs = torch.eye(grid[0] * grid[1]).expand(len(images), -1, -1)
    proposals = proposals or [Proposals(torch.ones(1, 1, 1))] * len(images)
    return AggregatedAttention(probs, grid, SourceOutput([], proposals=proposals, images=images))


@pytest.mark.parametrize("size", [(32, 48), (7, 3), (1, 1), (1, 20)])
def test_nothing_refined_is_nothing_changed(size):
    proposals = [random_proposals(4, (4, 5), seed) for seed in range(3)]
    given = aggregated(torch.rand(3, 3, *size))
    expected = ArgmaxAssigner()(proposals, size)
    found = Unchanged()(proposals, size, aggregated=given)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


def test_what_refine_is_given():
    """Masks of what is there alone, one-hot; the image at the size of the label map."""
    low = torch.full((1, 4, 4), 0.01)
    maps = torch.cat([low, random_proposals(2, (4, 4)).maps, low])
    proposals = Proposals(maps / maps.sum((1, 2), keepdim=True), scores=maps)
    refiner, image = Unchanged(), torch.rand(1, 3, 64, 32)
    labels = refiner([proposals], (64, 32), aggregated=aggregated(image))
    assert labels.unique().tolist() == [1, 2]
    assert refiner.masks.shape == (2, 64, 32)
    assert torch.equal(refiner.masks, torch.stack([labels[0] == 1, labels[0] == 2]).float())
    assert torch.equal(refiner.image, image[0])


def test_ids_are_those_of_the_proposals():
    """Of five proposals the second and the last win pixels; moved by one, they keep their ids."""
    scores = torch.zeros(5, 1, 4)
    scores[1, 0, :2], scores[4, 0, 2:] = 1, 1
    proposals = Proposals(torch.full((5, 1, 4), 0.25), scores=scores)
    labels = Shifted()([proposals], (1, 4), aggregated=aggregated(torch.rand(1, 3, 1, 4)))
    assert labels.tolist() == [[[1, 1, 1, 4]]]


def test_a_batch_is_a_loop():
    proposals = [random_proposals(number, (5, 4), number) for number in (2, 1, 6)]
    images = torch.rand(3, 3, 20, 30)
    together = Shifted()(proposals, (20, 30), aggregated=aggregated(images))
    for index, own in enumerate(proposals):
        given = aggregated(images[index : index + 1])
        assert torch.equal(together[index], Shifted()([own], (20, 30), aggregated=given)[0])
    assert not torch.equal(together, ArgmaxAssigner()(proposals, (20, 30)))


class Scaled(RefiningAssigner):
    """Large scores, from the column alone, to see that scores are upsampled and not labels."""

    def refine(self, masks, image):
        columns = torch.arange(masks.shape[2], dtype=masks.dtype).expand_as(masks[0])
        return torch.stack([1.5 - columns, columns - 1.5])


def test_large_photos_are_refined_small_and_scores_are_upsampled():
    halves = Proposals(torch.tensor([[[0.8, 0.2]], [[0.2, 0.8]]]))
    refiner = Unchanged(max_side=40)
    labels = refiner([halves], (300, 600), aggregated=aggregated(torch.rand(1, 3, 280, 518)))
    assert labels.shape == (1, 300, 600)
    assert refiner.image.shape == (3, 20, 40)
    assert refiner.masks.shape == (2, 20, 40)
    # Scores of four columns cross between the second and the third: in the middle of 600.
    labels = Scaled(max_side=4)([halves], (300, 600), aggregated=aggregated(torch.rand(1, 3, 8, 8)))
    assert torch.equal(labels[0], (torch.arange(600) >= 300).long().expand(300, 600))


@pytest.mark.parametrize(
    ("image", "size", "max_side", "expected"),
    [
        ((350, 518), (321, 481), 1024, (321, 481)),  # the label map's own
        ((350, 518), (2000, 3000), 1024, (345, 518)),  # no finer than what the source saw
        ((350, 518), (2000, 3000), 300, (200, 300)),
        ((518, 518), (300, 1200), 1024, (130, 518)),  # squashed: the photo's proportions
        ((64, 64), (1, 5000), 1024, (1, 64)),
        ((1, 1), (30, 20), 1024, (1, 1)),
    ],
)
def test_working_sizes(image, size, max_side, expected):
    given = aggregated(torch.rand(2, 3, *image))
    assert guide_images(given, "X", size, max_side).shape == (2, 3, *expected)


def test_shrinking_averages():
    image = torch.rand(1, 3, 12, 8)
    shrunk = guide_images(aggregated(image.half()), "X", (3, 2), 1024)
    assert shrunk.dtype == torch.float32
    # A triangle of twice the cell, as antialiasing has it; away from the border its mean is that.
    weights = torch.tensor([1, 3, 5, 7, 7, 5, 3, 1]) / 32
    middle = (image[0, :, 2:10, :6] * weights[:, None]).sum(1)
    left = torch.tensor([5.0, 7, 7, 5, 3, 1]) / 28
    torch.testing.assert_close(shrunk[0, :, 1, 0], (middle * left).sum(1), atol=1e-3, rtol=0)
    assert guide_images(aggregated(image.double()), "X", (6, 4), 9).dtype == torch.float64


def test_one_segment_is_not_refined():
    refiner = Unchanged()
    given = aggregated(torch.rand(2, 3, 6, 9))
    labels = refiner([random_proposals(1, (2, 2))] * 2, (6, 9), aggregated=given)
    assert torch.equal(labels, torch.zeros(2, 6, 9, dtype=torch.int64))
    scores = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    second = Proposals(torch.full((2, 2, 2), 0.25), scores=scores)
    assert refiner([second], (6, 9), aggregated=given.select(slice(1))).unique().tolist() == [1]
    assert not hasattr(refiner, "masks")


def test_refiners_are_nested():
    proposals = [random_proposals(3, (4, 6))]
    given = aggregated(torch.rand(1, 3, 24, 36))
    once = Shifted()(proposals, (24, 36), aggregated=given)[0]
    twice = Shifted(assigner=Shifted())(proposals, (24, 36), aggregated=given)[0]
    assert torch.equal(twice[:, 1:], once[:, :-1])
    assert torch.equal(twice[:, 0], once[:, 0])
    assert "max_side=7" in repr(Shifted(assigner=Unchanged(max_side=7)))


def test_images_are_needed():
    proposals = [random_proposals(2, (2, 2))]
    bare = SourceOutput([], proposals=proposals)
    for given in (
        None,
        AggregatedAttention(torch.eye(4)[None], (2, 2)),
        AggregatedAttention(torch.eye(4)[None], (2, 2), bare),
    ):
        with pytest.raises(UsageError, match="Unchanged looks at the image, but got none"):
            Unchanged()(proposals, (4, 4), aggregated=given)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="abstract"):
        RefiningAssigner()
    with pytest.raises(TypeError, match="`assigner` to be an Assigner or None, but got 'Argmax'"):
        Unchanged(assigner="Argmax")
    for wrong in (0, 2.5):
        with pytest.raises(
            ValueError, match=f"`max_side` to be an integer, at least 1, but got {wrong}"
        ):
            Unchanged(max_side=wrong)
    given = aggregated(torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"`size` to be \(height, width\) > 0"):
        Unchanged()([random_proposals(2, (2, 2))], (0, 4), aggregated=given)
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\), but got \(1, 4, 4, 4\)"):
        guide_images(aggregated(torch.rand(1, 4, 4, 4)), "X", (4, 4), 9)
    with pytest.raises(ValueError, match="Wrong.refine gave torch.int64"):
        Wrong()([random_proposals(2, (2, 2))], (4, 4), aggregated=given)
    with pytest.raises(ValueError, match="zip"):
        Unchanged()([random_proposals(2, (2, 2))] * 2, (4, 4), aggregated=given)


class Wrong(RefiningAssigner):
    def refine(self, masks, image):
        return masks.argmax(0)


class Fixed(AttentionSource):
    def forward(self, images, *, prompts=None):
        maps = AffinitySource(cells=(8,))(images).attention
        return SourceOutput(maps)


class LeftAndRight(Merger):
    def forward(self, aggregated, *, num_segments=None):
        sides = (torch.arange(aggregated.grid[1]) * 2 >= aggregated.grid[1]).long()
        return [Proposals.of_parts(sides.expand(aggregated.grid))] * aggregated.batch_size


def test_in_a_segmenter_photos_of_different_sizes():
    refiner = Unchanged()
    segmenter = Segmenter(Fixed(), ResolutionAggregator(), LeftAndRight(), refiner, image_size=64)
    photos = [torch.rand(3, 90, 130), torch.rand(3, 130, 90)]
    for photo, segmentation in zip(photos, segmenter(photos), strict=True):
        assert segmentation.labels.shape == photo.shape[1:]
        assert segmentation.num_segments == 2
    assert refiner.image.shape == (3, 64, 44)
    assert refiner.image.max() > 0.7  # the photo, not an empty picture
