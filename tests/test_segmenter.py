"""The four parts in a row."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import (
    AggregatedAttention,
    Aggregator,
    Assigner,
    AttentionMap,
    AttentionSource,
    Merger,
    Proposals,
    Segmenter,
    SourceOutput,
)
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.errors import ImageError
from diffsegkit.mergers import IterativeKLMerger, KMeansMerger
from diffsegkit.sources import AffinitySource


class Brightness(AttentionSource):
    """Cells attend to cells as bright as they are; remembers what it was given."""

    size_multiple = 8

    def forward(self, images, *, prompts=None):
        self.seen, self.prompts = images, prompts
        cells = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        flat = cells.flatten(1).float()
        probs = torch.softmax(-20 * (flat[:, :, None] - flat[:, None]).abs(), -1)
        return SourceOutput([AttentionMap(probs, tuple(cells.shape[2:]))])


class OneGrid(Aggregator):
    def forward(self, output):
        [attention] = output.attention
        return AggregatedAttention(attention.probs, attention.grid)


class Halves(Merger):
    """Left and right, and a third proposal that wins nothing."""

    def forward(self, aggregated, *, num_segments=None):
        maps = torch.full((3, *aggregated.grid), 1e-3)
        middle = aggregated.grid[1] // 2
        maps[2, :, :middle] = 1
        maps[0, :, middle:] = 1
        maps /= maps.sum((1, 2), keepdim=True)
        return [Proposals(maps) for _ in range(aggregated.batch_size)]


class Corner(Assigner):
    """Everything is 0 but one pixel, which is the last proposal's."""

    def forward(self, proposals, size, *, aggregated=None):
        labels = torch.zeros(len(proposals), *size, dtype=torch.int64)
        for index, own in enumerate(proposals):
            labels[index, -1, -1] = len(own) - 1
        self.saw_images = aggregated.source.images.shape
        return labels


def build(source=None, merger=None, assigner=None, **options):
    return Segmenter(
        source or Brightness(),
        OneGrid(),
        merger or IterativeKLMerger((0.5, 0.5), points_per_side=4),
        assigner or ArgmaxAssigner(),
        **{"image_size": 64, **options},
    )


def test_every_part_can_be_a_subclass(photo):
    segmenter = build(merger=Halves())
    [result] = segmenter(photo)
    assert result.labels.shape == (90, 120)
    assert result.num_segments == 2
    assert result.labels[:, :60].unique().tolist() == [1]
    assert result.labels[:, 60:].unique().tolist() == [0]
    torch.testing.assert_close(result.proposals.maps, Halves()(
        AggregatedAttention(torch.full((1, 48, 48), 1 / 48), (6, 8)))[0].maps[[0, 2]])  # fmt: skip


def test_an_assigner_sees_its_own_image_through_the_aggregate(photo):
    assigner = Corner()
    [first, second] = build(merger=Halves(), assigner=assigner)([photo, photo[:80]])
    assert assigner.saw_images == (1, 3, 40, 64)
    for result in (first, second):
        assert result.labels.unique().tolist() == [0, 1]
        assert len(result.proposals) == 2


@pytest.mark.parametrize(
    ("resize", "seen", "labels", "box"),
    [
        ("fit", (48, 64), (90, 120), None),
        ("square", (64, 64), (90, 120), None),
        ("crop", (64, 64), (90, 90), (15, 0, 105, 90)),
    ],
)
def test_resizing(photo, resize, seen, labels, box):
    segmenter = build(resize=resize)
    [result] = segmenter(photo)
    assert segmenter.source.seen.shape[2:] == seen
    assert result.labels.shape == labels
    assert result.crop_box == box
    assert result.image_size == (90, 120)


def test_cropping_shows_the_source_the_centre(photo):
    segmenter = build(resize="crop")
    segmenter(photo)
    seen = segmenter.source.seen
    segmenter(photo[:, 15:105].copy())
    assert torch.equal(segmenter.source.seen, seen)


def test_a_batch_of_mixed_sizes_gives_what_its_images_give_one_by_one(photo, generator):
    photos = [photo, photo[:60], photo.transpose(1, 0, 2), photo[::2, ::2], photo[:1, :1]]
    segmenter = Segmenter.from_preset("affinity", image_size=128, source={"cells": [16, 8]})
    for batch_size in (1, 2, 10):
        together = segmenter(photos, batch_size=batch_size)
        for image, result in zip(photos, together, strict=True):
            [alone] = segmenter(image)
            assert torch.equal(alone.labels, result.labels)
            assert alone.image_size == result.image_size == image.shape[:2]


def test_the_steps_make_the_whole(photo):
    segmenter = build()
    output = segmenter.extract(photo)
    assert output.images.shape == (1, 3, 48, 64)
    aggregated = segmenter.aggregate(output)
    assert aggregated.source is output
    proposals = segmenter.merge(aggregated)
    labels = segmenter.assign(proposals, (90, 120), aggregated=aggregated)
    [result] = segmenter(photo)
    assert torch.equal(labels[0], result.labels)


def test_assign_leaves_no_gaps():
    proposals = Halves()(AggregatedAttention(torch.full((1, 4, 4), 0.25), (2, 2)))
    labels = build().assign(proposals, (4, 4))
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == [0, 1]


def test_extract_wants_one_shape(photo):
    with pytest.raises(ValueError, match=r"at one size, but got \[\(48, 64\), \(64, 48\)\]"):
        build().extract([photo, photo.transpose(1, 0, 2)])
    assert build(resize="square").extract([photo, photo.transpose(1, 0, 2)]).batch_size == 2


def test_all_kinds_of_input(photo, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    segmenter = build()
    [expected] = segmenter(path)
    for images in (str(path), Image.open(path), photo, tensor, tensor.float() / 255, tensor[None]):
        [result] = segmenter(images)
        assert torch.equal(result.labels, expected.labels)
    assert len(segmenter(iter([path, photo]))) == 2
    assert len(segmenter(torch.stack([tensor] * 3))) == 3


def test_numbers_of_segments_and_prompts_follow_their_images(photo):
    segmenter = build(merger=KMeansMerger())
    mixed = [photo, photo.transpose(1, 0, 2), photo[::-1]]
    results = segmenter(mixed, num_segments=[1, 2, 3], prompts=["a", "b", "c"])
    assert [result.num_segments for result in results] == [1, 2, 3]
    assert segmenter.source.prompts == ["b"]  # the last batch: the upright one


@pytest.mark.parametrize("argument", ["prompts", "num_segments"])
def test_one_entry_per_image(photo, argument):
    with pytest.raises(ValueError, match=f"`{argument}` to hold one entry for each of 2 images"):
        build()([photo, photo], **{argument: [1]})


def test_no_image_and_wrong_options(photo):
    with pytest.raises(ImageError, match="at least one image"):
        build()([])
    with pytest.raises(ImageError, match="but got int"):
        build()(3)
    with pytest.raises(ValueError, match="`batch_size` to be positive"):
        build()(photo, batch_size=0)
    with pytest.raises(ValueError, match="`image_size` to be a positive integer"):
        build(image_size=0)
    with pytest.raises(ValueError, match="'fit', 'square', 'crop'"):
        build(resize="stretch")


class Careless(Merger):
    def forward(self, aggregated, *, num_segments=None):
        return []


class Floats(Assigner):
    def forward(self, proposals, size, *, aggregated=None):
        return torch.zeros(len(proposals), *size)


class Outside(Assigner):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, proposals, size, *, aggregated=None):
        return torch.full((len(proposals), *size), self.label)


class Raw(Merger):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, aggregated, *, num_segments=None):
        return self.result


class RawSource(AttentionSource):
    def forward(self, images, *, prompts=None):
        return images


class RawAggregator(Aggregator):
    def forward(self, output):
        return output


class HalfBatch(Brightness):
    def forward(self, images, *, prompts=None):
        return super().forward(images[:1])


def test_a_part_that_breaks_its_promise_is_named(photo):
    with pytest.raises(ValueError, match="Careless gave 0 proposals for 1 images"):
        build(merger=Careless())(photo)
    with pytest.raises(ValueError, match=r"Floats gave label maps of .*torch\.float32"):
        build(assigner=Floats())(photo)
    for label in (-1, 99):
        with pytest.raises(ValueError, match=f"Outside gave ids between {label} and {label}"):
            build(assigner=Outside(label))(photo)
    for result, name in ((None, "NoneType"), ([torch.ones(1, 1, 1)], "Tensor")):
        with pytest.raises(TypeError, match=f"Raw gave a {name}; expected"):
            build(merger=Raw(result))(photo)
    with pytest.raises(TypeError, match="RawSource gave a Tensor; expected SourceOutput"):
        build(source=RawSource())(photo)
    wrong = Segmenter(Brightness(), RawAggregator(), Halves(), ArgmaxAssigner(), image_size=64)
    with pytest.raises(TypeError, match="RawAggregator gave a SourceOutput; expected Aggregated"):
        wrong(photo)
    with pytest.raises(ValueError, match="HalfBatch gave attention for 1 images, but got 2"):
        build(source=HalfBatch())([photo, photo])


def test_parts_must_be_parts():
    with pytest.raises(TypeError, match="`source` to be an instance of AttentionSource"):
        Segmenter(AffinitySource, ResolutionAggregator(), KMeansMerger(), ArgmaxAssigner())
    with pytest.raises(TypeError, match="`aggregator` to be an instance of Aggregator"):
        Segmenter(AffinitySource(), KMeansMerger(), ResolutionAggregator(), ArgmaxAssigner())


def test_dtype_reaches_the_source_and_nothing_else(photo):
    segmenter = build().to(torch.bfloat16)
    [half] = segmenter(photo)
    assert segmenter.source.seen.dtype == torch.bfloat16
    assert half.proposals.maps.dtype == torch.float32
    [full] = build()(photo)
    assert (half.labels == full.labels).float().mean() > 0.95


def test_stages_are_timed(photo):
    [result] = build()(photo)
    assert list(result.times) == ["prepare", "extract", "aggregate", "merge", "assign"]
    assert all(milliseconds > 0 for milliseconds in result.times.values())


def test_no_gradient_is_kept(photo):
    source = Brightness()
    source.weight = torch.nn.Parameter(torch.ones(()))
    source.register_forward_pre_hook(lambda module, args: (args[0] * module.weight,))
    [result] = build(source=source)(photo)
    assert not result.proposals.maps.requires_grad


def test_the_default_pipeline_finds_the_regions_of_a_simple_photo(photo):
    """Three regions of different colour, up to the coarse grids' cells on their borders."""
    truth = np.zeros((90, 120), dtype=int)
    truth[50:] = 1
    truth[20:70, 40:80] = 2
    [result] = Segmenter.from_preset("affinity")(photo)
    found = result.labels.numpy()
    for region in range(3):
        inside = found[truth == region]
        dominant = np.bincount(inside).argmax()
        assert (inside == dominant).mean() > 0.7
        assert (found[truth != region] != dominant).mean() > 0.98


def test_a_segmenter_shows_its_parts():
    text = repr(
        Segmenter(AffinitySource(), ResolutionAggregator(), KMeansMerger(), ArgmaxAssigner())
    )
    for expected in ("AffinitySource(cells=(64, 32)", "num_segments=6", "image_size=512"):
        assert expected in text
