"""The default parts on Triton's kernels give what they give on PyTorch's, and the original's."""

import numpy as np
import pytest
import torch

from diffsegkit import AttentionMap, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.kernels import kernel_backend, launch
from diffsegkit.kernels.absorb import triton as absorb
from diffsegkit.kernels.pairwise_kl import triton as pairwise_kl
from diffsegkit.mergers import IterativeKLMerger
from tests.golden.test_parity import CASES, aggregate, agreement, expected
from tests.kernels.conftest import DEVICE, launched  # noqa: F401 - a fixture
from tests.synthetic import region_attention

# In the interpreter a program of a kernel is Python, so the largest launches have fewer and larger
# tiles there. The tiles of a GPU are those of tests/kernels and of test_small_grids.
LARGE_TILES = {
    "_mark_close_kernel": {"ROWS_X": 256, "ROWS_Y": 1024, "BLOCK": 512},
    "_add_sums_kernel": {"ROWS": 256, "BLOCK": 512, "COLUMNS": 1024},
    "_pairwise_kl_kernel": {"ROWS_X": 256, "ROWS_Y": 256, "BLOCK": 512},
}

STAGES = {
    "_accumulate_upsampled_kernel", "_mark_close_kernel", "_add_sums_kernel",
    "_pairwise_kl_kernel", "_greedy_groups_kernel", "_upsampled_argmax_kernel",
}  # fmt: skip


@pytest.fixture
def large_tiles(monkeypatch):
    """Larger tiles for whatever is launched, in the interpreter."""
    if DEVICE.type == "cuda":
        return

    def with_large_tiles(kernel, grid, like, *args, **options):
        name = kernel.fn.__name__
        if name in LARGE_TILES:
            tiles = LARGE_TILES[name]
            rows, columns = [each for each in tiles if each != "BLOCK"]
            covered = grid[0] * options[columns], grid[1] * options[rows]
            shape = [-(-covered[0] // tiles[columns]), -(-covered[1] // tiles[rows]), *grid[2:]]
            options, grid = options | tiles, tuple(shape)
        launch.launch(kernel, grid, like, *args, **options)

    for module in (absorb, pairwise_kl):
        monkeypatch.setattr(module, "launch", with_large_tiles)


def segment(output, weighting, merger, size):
    """Labels and rounds, on the device where Triton runs."""
    aggregated = ResolutionAggregator(weighting)(output)
    [proposals] = merger(aggregated)
    return ArgmaxAssigner()([proposals], size)[0].cpu().numpy(), proposals.rounds, aggregated


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_golden_cases(name, launched, large_tiles):  # noqa: F811
    case = CASES[name]
    source = aggregate(name).source
    attention = [layer.select(slice(None)) for layer in source.attention]
    if DEVICE.type == "cuda":
        attention = [
            type(layer)(layer.probs.to(DEVICE), layer.grid, layer.name) for layer in attention
        ]
    ratio = case["weight_ratio"]
    weighting = "resolution" if ratio is None else dict(zip((64, 32, 16, 8), ratio, strict=True))
    merger = IterativeKLMerger(
        case["thresholds"], case["points_per_side"], refine=case["refine"],
        anchor_precision="float16",
    )  # fmt: skip
    with kernel_backend("triton"):
        labels, rounds, aggregated = segment(SourceOutput(attention), weighting, merger, (512, 512))
    assert set(launched) == STAGES
    original = expected(name)
    rows = aggregated.rows(torch.from_numpy(original["row_index"]).to(DEVICE))[0]
    np.testing.assert_allclose(rows.cpu().numpy(), original["rows"], rtol=1e-5)
    assert rounds[0].count == case["points_per_side"] ** 2 - case["nan_anchors"]
    assert [each.count for each in rounds[1:]] == original["counts"].tolist()
    assert agreement(labels, original["labels"].astype(np.int64)) >= 0.9997


@pytest.mark.parametrize("grid", [(16, 16), (12, 20)], ids=str)
def test_small_grids(grid, launched, generator):  # noqa: F811
    """The same on grids that the interpreter does at once, through every stage."""
    fine = region_attention(grid, generator).probs
    coarse = region_attention((grid[0] // 4, grid[1] // 4), generator).probs
    output = SourceOutput(
        [
            AttentionMap(fine.to(DEVICE), grid),
            AttentionMap(coarse.to(DEVICE), (grid[0] // 4, grid[1] // 4)),
        ]
    )
    merger = IterativeKLMerger((0.4, 0.5), points_per_side=6)
    size = (grid[0] * 5, grid[1] * 5)
    with kernel_backend("torch"):
        plain, plain_rounds, _ = segment(output, "resolution", merger, size)
    assert launched == []
    with kernel_backend("triton"):
        labels, rounds, _ = segment(output, "resolution", merger, size)
    assert set(launched) == STAGES
    assert [each.count for each in rounds] == [each.count for each in plain_rounds]
    assert torch.equal(rounds[0].members, plain_rounds[0].members)
    assert (labels == plain).mean() > 0.999
