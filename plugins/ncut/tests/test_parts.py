"""The aggregator, the assigner, the presets, and all of them in a row."""

import pytest
import torch

from diffsegkit import AttentionSource, Proposals, Segmenter, SourceOutput, list_components
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.errors import UsageError
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit.presets import Preset
from diffsegkit_ncut import (
    FeatureAffinityAggregator,
    PrototypeAssigner,
    RecursiveNcutMerger,
    cosine_affinity,
)
from diffsegkit_ncut import presets as all_presets
from graphs import aggregated, vectors_of


def test_the_aggregate_is_the_affinity_row_by_row(generator):
    features = torch.randn(2, 5, 3, 4, generator=generator)
    found = FeatureAffinityAggregator(alpha=4)(SourceOutput([], features=[features]))
    assert found.grid == (3, 4)
    for own, rows in zip(features, found.probs, strict=True):
        affinity = cosine_affinity(own.flatten(1).mT, 4)
        torch.testing.assert_close(rows.double(), affinity / affinity.sum(1, keepdim=True), atol=1e-6, rtol=1e-5)  # fmt: skip
    with pytest.raises(UsageError, match="FeatureAffinityAggregator compares features"):
        FeatureAffinityAggregator()(SourceOutput([], images=None, proposals=[Proposals(torch.ones(1, 1, 1))]))  # fmt: skip


def reference_assignment(parts, features, side, size):
    """DiffCut's steps one by one, every feature vector upsampled."""
    unit = torch.nn.functional.normalize(features.double(), dim=0)
    ids = parts.unique()
    prototypes = torch.stack([unit[:, parts == part].mean(1) for part in ids])
    fine = torch.nn.functional.interpolate(unit[None], size=side, mode="bilinear")[0]
    products = torch.einsum("kc,chw->khw", prototypes, fine)
    at_size = torch.nn.functional.interpolate(products[None], size=size, mode="bilinear")[0]
    return ids[at_size.argmax(0)]


@pytest.mark.parametrize(
    ("grid", "side"), [((6, 6), (12, 12)), ((4, 7), (7, 12)), ((5, 3), (12, 7))]
)
def test_prototypes(grid, side, generator):
    features = torch.randn(1, 8, *grid, generator=generator)
    parts = torch.randint(0, 3, grid, generator=generator)
    proposals = Proposals.of_parts(parts)
    found = PrototypeAssigner(side=12)([proposals], (40, 33), aggregated=aggregated(features))
    expected = reference_assignment(parts, features[0], side, (40, 33))
    assert found.dtype == torch.int64
    assert (found[0] == expected).double().mean() > 0.999


def test_prototypes_move_a_border_to_where_the_features_have_it():
    """Segments of half the resolution, one column off."""
    kinds = (torch.arange(8) > 2).long().expand(8, 8)
    features = vectors_of(kinds.flatten()).mT.reshape(1, -1, 8, 8)
    coarse = Proposals.of_parts((torch.arange(4) > 1).long().expand(4, 4))
    [labels] = PrototypeAssigner(side=8)([coarse], (8, 8), aggregated=aggregated(features))
    assert torch.equal(labels, kinds)


def test_a_proposal_that_wins_no_cell_wins_no_pixel(generator):
    maps = torch.tensor([[[0.5, 0.5]], [[0.4, 0.6]], [[0.7, 0.3]]])
    features = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    [labels] = PrototypeAssigner()([Proposals(maps)], (2, 4), aggregated=aggregated(features))
    assert labels.tolist() == [[2, 2, 1, 1]] * 2


def test_prototypes_need_features():
    with pytest.raises(UsageError, match="PrototypeAssigner compares features"):
        PrototypeAssigner()([Proposals(torch.ones(1, 1, 1))], (2, 2))
    with pytest.raises(ValueError, match="`side` to be at least 1"):
        PrototypeAssigner(side=0)


class Quadrants(AttentionSource):
    """Features of four colours, from the mean colour of each cell of 4 pixels."""

    size_multiple = 4

    def forward(self, images, *, prompts=None):
        cells = torch.nn.functional.avg_pool2d(images, 4)
        return SourceOutput([], features=[cells - cells.mean((2, 3), keepdim=True)])


def test_in_a_segmenter():
    photo = torch.zeros(3, 32, 48)
    photo[0, :16, :24], photo[1, :16, 24:], photo[2, 16:] = 1, 1, 1
    segmenter = Segmenter(
        Quadrants(), FeatureAffinityAggregator(), RecursiveNcutMerger(), PrototypeAssigner(), image_size=48
    )  # fmt: skip
    [segmentation] = segmenter(photo)
    assert segmentation.num_segments == 3
    assert segmentation.labels[0, 0] != segmentation.labels[0, -1] != segmentation.labels[-1, -1]
    # DiffSeg's own merging runs on the affinities too.
    diffseg = Segmenter(Quadrants(), FeatureAffinityAggregator(), IterativeKLMerger(0.5), PrototypeAssigner(), image_size=48)  # fmt: skip
    assert diffseg(photo)[0].num_segments == 3


def test_all_are_registered_under_their_names():
    assert {"RecursiveNcutMerger", "KWayNcutMerger", "TokenCutMerger", "MaskCutMerger"} <= {*list_components("mergers")}  # fmt: skip
    assert "PrototypeAssigner" in list_components("assigners")
    assert "FeatureAffinityAggregator" in list_components("aggregators")
    names = ["diffcut-ssd1b", "kway-dinov2s", "maskcut-dinov2s", "ncut-dinov2s", "tokencut-dinov2s"]
    assert {*names} <= {*list_components("presets")}


@pytest.mark.parametrize(
    "name", [name for name in dir(all_presets) if name.isupper() and name[0] != "_"]
)
def test_presets_are_complete(name):
    pytest.importorskip("diffusers")
    from diffsegkit.configuration import preset_configuration

    preset = getattr(all_presets, name)
    assert isinstance(preset, Preset)
    configuration = preset_configuration(preset)
    assert configuration["merger"]["class_path"].startswith("diffsegkit_ncut")
    assert isinstance(Segmenter.from_preset(preset, source=Quadrants).merger.extra_repr(), str)


def test_attention_beside_features():
    """Where a source gives both, the aggregate may be of attention and the cut of features."""
    from diffsegkit import AttentionMap

    features = vectors_of(torch.tensor([0, 0, 1, 1, 1, 1])).mT.reshape(1, -1, 2, 3)
    output = SourceOutput([AttentionMap(torch.eye(6)[None], (2, 3))], features=[features])
    [proposals] = RecursiveNcutMerger()(ResolutionAggregator()(output))
    assert proposals.scores.argmax(0).flatten().tolist() == [0, 0, 1, 1, 1, 1]
