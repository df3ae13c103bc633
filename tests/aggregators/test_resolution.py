"""Aggregation against the description in the paper, computed naively by scipy in float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from diffsegkit import AttentionMap, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from tests.synthetic import random_map, random_probs


def centres(new, old):
    """Half-pixel centres of ``new`` cells in the coordinates of ``old`` ones."""
    return (np.arange(new) + 0.5) * old / new - 0.5


def naive(layers, target, weights):
    """One image: every layer upsampled, renormalised, repeated and weighted, with loops."""
    total = np.zeros((target[0] * target[1],) * 2)
    for layer, weight in zip(layers, weights, strict=True):
        (height, width), probs = layer.grid, layer.probs[0].double().numpy()
        where = np.meshgrid(centres(target[0], height), centres(target[1], width), indexing="ij")
        for query in range(total.shape[0]):
            row, column = divmod(query, target[1])
            source = int((row + 0.5) * height / target[0]) * width + int(
                (column + 0.5) * width / target[1]
            )
            key_map = probs[source].reshape(height, width)
            key_map = map_coordinates(key_map, where, order=1, mode="nearest")
            total[query] += weight * (key_map / key_map.sum()).ravel()
    return total


@pytest.mark.parametrize(
    "grids",
    [
        [(8, 8), (4, 4), (2, 2), (1, 1)],
        [(6, 8), (3, 4)],
        [(4, 9), (2, 5)],  # as 45 to 23 columns: no whole ratio
        [(5, 7), (3, 2)],
        [(1, 6), (1, 3)],
        [(1, 1)],
    ],
    ids=str,
)
@pytest.mark.parametrize("weighting", ["resolution", "layer"])
def test_matches_the_naive_computation(grids, weighting, generator):
    layers = [random_map(grid, generator, batch=1, sharpness=2) for grid in grids]
    aggregated = ResolutionAggregator(weighting)(SourceOutput(layers))
    assert aggregated.grid == grids[0]
    weights = np.array([max(grid) for grid in grids], dtype=float)
    expected = naive(layers, grids[0], weights / weights.sum())
    np.testing.assert_allclose(aggregated.probs[0].numpy(), expected, rtol=1e-4, atol=1e-8)


def test_45_to_23_columns(generator):
    layers = [
        random_map((2, 45), generator, batch=1), random_map((1, 23), generator, batch=1)
    ]  # fmt: skip
    aggregated = ResolutionAggregator()(SourceOutput(layers))
    expected = naive(layers, (2, 45), [45 / 68, 23 / 68])
    np.testing.assert_allclose(aggregated.probs[0].numpy(), expected, rtol=1e-4, atol=1e-8)


def test_layers_of_one_resolution_are_averaged(generator):
    layers = [random_map((2, 3), generator) for _ in range(3)]
    aggregated = ResolutionAggregator()(SourceOutput(layers))
    mean = torch.stack([layer.probs for layer in layers]).mean(0)
    torch.testing.assert_close(aggregated.probs, mean)


def test_averaged_layers_count_fully(generator):
    """Three layers one by one are the mean of the first two, counted twice, and the third."""
    layers = [random_map((4, 4), generator) for _ in range(3)]
    coarse = random_map((2, 2), generator)
    pair = AttentionMap((layers[0].probs + layers[1].probs) / 2, (4, 4), count=2)
    for weighting in ("resolution", "layer"):
        aggregator = ResolutionAggregator(weighting)
        one_by_one = aggregator(SourceOutput([*layers, coarse]))
        averaged = aggregator(SourceOutput([pair, layers[2], coarse]))
        torch.testing.assert_close(one_by_one.probs, averaged.probs)


def test_weighting_by_layer_differs_as_the_paper_says(generator):
    """Stable Diffusion has 5 layers at each resolution but one at the coarsest."""
    fine, coarse = random_map((4, 4), generator, batch=1), random_map((2, 2), generator, batch=1)
    layers = [fine] * 5 + [coarse]
    by_layer = ResolutionAggregator("layer")(SourceOutput(layers)).probs
    expected = naive([fine, coarse], (4, 4), [20 / 22, 2 / 22])
    np.testing.assert_allclose(by_layer[0].numpy(), expected, rtol=1e-4, atol=1e-8)
    mapping = ResolutionAggregator({4: 20, 2: 2})(SourceOutput(layers)).probs
    torch.testing.assert_close(mapping, by_layer)


def test_a_mapping_weighs_by_the_longer_side_and_the_rest_by_zero(generator):
    tall, low = random_map((6, 4), generator, batch=1), random_map((3, 2), generator, batch=1)
    only_tall = ResolutionAggregator({6: 7})(SourceOutput([tall, low]))
    torch.testing.assert_close(only_tall.probs, tall.probs)
    only_low = ResolutionAggregator({3: 0.1, 6: 0})(SourceOutput([tall, low]))
    assert only_low.grid == (6, 4)
    np.testing.assert_allclose(only_low.probs[0], naive([low], (6, 4), [1]), rtol=1e-4, atol=1e-8)


def test_a_grid_can_be_chosen(generator):
    layers = [random_map((8, 6), generator), random_map((4, 3), generator)]
    coarser = ResolutionAggregator(grid=(4, 3))(SourceOutput(layers))
    assert coarser.probs.shape == (2, 12, 12)
    finer = ResolutionAggregator(grid=(16, 12))(SourceOutput(layers))
    assert finer.probs.shape == (2, 192, 192)
    torch.testing.assert_close(finer.probs.sum(-1), torch.ones(2, 192))


def test_shrinking_keeps_the_mass_of_every_key():
    """A key between the samples of plain bilinear interpolation is not lost."""
    one_key = torch.zeros(1, 64, 64)
    one_key[:, :, 9] = 1  # row 1, column 1 of 8x8: read by none of the 2x2 samples
    aggregated = ResolutionAggregator(grid=(2, 2))(SourceOutput([AttentionMap(one_key, (8, 8))]))
    assert aggregated.probs[0, :, 0].min() > 0.5


def test_a_batch_is_a_loop_and_nothing_is_changed(generator):
    layers = [random_map((4, 6), generator, batch=3), random_map((2, 3), generator, batch=3)]
    before = [layer.probs.clone() for layer in layers]
    output = SourceOutput(layers)
    together = ResolutionAggregator()(output)
    assert together.source is output
    for image in range(3):
        alone = ResolutionAggregator()(output.select(slice(image, image + 1)))
        torch.testing.assert_close(together.probs[image], alone.probs[0])
    assert all(torch.equal(a, b.probs) for a, b in zip(before, layers, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_computes_in_float32(dtype, generator):
    layer = AttentionMap(random_probs(1, 16, generator, dtype=dtype), (4, 4))
    assert ResolutionAggregator()(SourceOutput([layer])).probs.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "size"}, "'resolution', 'layer' or a mapping"),
        ({"weighting": {}}, "at least one above 0"),
        ({"weighting": {64: 0}}, "at least one above 0"),
        ({"weighting": {64: -1, 32: 2}}, "weight >= 0"),
        ({"weighting": {64: float("nan")}}, "weight >= 0"),
        ({"grid": (0, 3)}, "positive integers"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ResolutionAggregator(**options)


def test_a_grid_that_is_not_there_is_named(generator):
    with pytest.raises(ValueError, match=r"longer side \[23\].*gives \[4, 2\]"):
        ResolutionAggregator({4: 1, 23: 1})(
            SourceOutput([random_map((4, 4), generator), random_map((2, 2), generator)])
        )
