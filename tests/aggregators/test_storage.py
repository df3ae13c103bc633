"""However an aggregate is held, mergers read the same rows from it."""

import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffsegkit import AttentionMap, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator, levels, resolution
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.mergers import IterativeKLMerger, KMeansMerger
from tests.golden.test_parity import CASES, aggregate, agreement
from tests.synthetic import random_map

GRIDS = {
    "whole ratios": [(8, 6), (4, 3), (2, 3), (1, 1)],
    "other ratios": [(5, 7), (3, 2), (4, 4)],
    "one grid": [(4, 5)],
    "two layers of a grid": [(4, 4), (4, 4), (2, 2)],
}
# Of a row's largest entry: float16 keeps 11 bits.
TOLERANCE = {"float16": 1e-3, "recomputed": 1e-6}


def outputs(grids, generator, batch=2):
    return SourceOutput([random_map(grid, generator, batch=batch, sharpness=2) for grid in grids])


def assert_same(found, expected, storage):
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    error = (found - expected).abs() / expected.amax(-1, keepdim=True)
    assert error.numel() == 0 or error.max() < TOLERANCE[storage]


@pytest.mark.parametrize("storage", TOLERANCE)
@pytest.mark.parametrize("grids", GRIDS.values(), ids=list(GRIDS))
def test_rows(grids, storage, generator):
    output = outputs(grids, generator)
    stored = ResolutionAggregator(storage="float32")(output)
    other = ResolutionAggregator(storage=storage)(output)
    assert type(other) is not type(stored)
    assert (other.grid, other.batch_size, other.device) == (stored.grid, 2, stored.device)
    assert other.source is output
    assert repr(other).endswith(f"(batch_size=2, grid={stored.grid})")
    assert "probs" not in vars(other)  # nor was anything computed for it
    last = stored.num_locations - 1
    for index in (
        slice(None), slice(0, 1), slice(3, 11), slice(last, None), slice(5, 5), slice(2, last, 3),
        slice(-2, None),
        torch.tensor([last, 0, 3, 3]), torch.tensor([-1]), torch.tensor([[1, 2, 0], [last, 2, 5]]),
    ):  # fmt: skip
        assert_same(other.rows(index), stored.rows(index), storage)
    second = slice(1, 2)
    chosen = other.select(second)
    assert_same(chosen.rows(slice(1, 9)), stored.select(second).rows(slice(1, 9)), storage)
    assert chosen.source.batch_size == 1
    copied = pickle.loads(pickle.dumps(other))
    assert_same(copied.rows(slice(2, 7)), stored.rows(slice(2, 7)), storage)
    assert_same(other.probs, stored.probs, storage)
    # After `probs` was asked for, too.
    assert_same(other.rows(slice(2, 7)), stored.rows(slice(2, 7)), storage)


@pytest.mark.parametrize("band", [1, 3, 5, 8])
def test_bands_do_not_change_the_result(monkeypatch, band, generator):
    """Also where a band cuts a coarse row in two."""
    output = outputs([(8, 6), (4, 3), (1, 2), (2, 2)], generator)
    expected = ResolutionAggregator()(output).probs
    rows = [(start, min(start + band, 8)) for start in range(0, 8, band)]
    monkeypatch.setattr(resolution, "bands", lambda *_: rows)
    for storage in ("float32", "float16"):
        found = ResolutionAggregator(storage=storage)(output).probs
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
        if storage == "float32":
            torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)


def test_bands_fit_a_cache(monkeypatch, generator):
    output = outputs([(8, 6), (2, 3)], generator, batch=1)
    [fine, coarse] = [levels.Level([layer], 0.5) for layer in output.attention]
    monkeypatch.setattr(levels, "_BAND_BYTES", 4 * 48 * 6 * 3)
    assert list(levels.bands([fine], (8, 6))) == [(0, 3), (3, 6), (6, 8)]
    # Four rows share a coarse one: not three of them at a time, nor five.
    assert list(levels.bands([fine, coarse], (8, 6))) == [(0, 3), (3, 6), (6, 8)]
    monkeypatch.setattr(levels, "_BAND_BYTES", 4 * 48 * 6 * 5)
    assert list(levels.bands([fine, coarse], (8, 6))) == [(0, 4), (4, 8)]


@pytest.mark.parametrize("storage", TOLERANCE)
def test_label_maps_are_the_same(storage):
    """On attention of Stable Diffusion's shape, with the original's thresholds."""
    case = CASES["soft_many"]
    stored = aggregate("soft_many")
    merger, assigner = IterativeKLMerger(case["thresholds"]), ArgmaxAssigner()
    other = ResolutionAggregator(storage=storage)(stored.source)
    first, second = (assigner(merger(each), (512, 512))[0].numpy() for each in (stored, other))
    assert agreement(first, second) >= 0.9998


@pytest.mark.parametrize("storage", TOLERANCE)
@pytest.mark.parametrize("merger", [IterativeKLMerger(0.4, refine=True), KMeansMerger(3)], ids=repr)
def test_mergers_that_look_twice(merger, storage, generator):
    output = outputs([(8, 8), (4, 4)], generator)
    stored = ResolutionAggregator(storage="float32")(output)
    other = ResolutionAggregator(storage=storage)(output)
    for one, two in zip(merger(stored), merger(other), strict=True):
        torch.testing.assert_close(one.maps, two.maps, atol=1e-3, rtol=1e-2)


class Largest(TorchDispatchMode):
    """The most bytes that any one tensor took while the mode was on."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor) and not func._schema.is_mutable:
                views = any(
                    isinstance(own, torch.Tensor)
                    and own.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
                    for own in args
                )
                if not views:
                    self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return result


def test_large_grids_are_never_whole(generator):
    """Above 8192 locations nothing of N x N is made, and merging works on parts of it."""
    grid = (92, 92)
    place = torch.arange(92 * 92)
    maps = torch.softmax((place[:, None] % 92 > 45).eq(place % 92 > 45).float() * 3, -1)
    output = SourceOutput([AttentionMap(maps[None], grid)])
    with Largest() as largest:
        aggregated = ResolutionAggregator()(output)
        [proposals] = IterativeKLMerger((0.5, 0.5))(aggregated)
    assert len(proposals) == 2
    assert largest.bytes < maps.numel() * 4 / 8
    with Largest() as whole:
        ResolutionAggregator(storage="float32")(output)
    assert whole.bytes == maps.numel() * 4


def test_an_unknown_storage_is_told():
    with pytest.raises(ValueError, match=r"`storage` to be one of .*'recomputed'.*got 'disk'"):
        ResolutionAggregator(storage="disk")
