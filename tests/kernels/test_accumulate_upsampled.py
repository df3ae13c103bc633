"""Upsampling and accumulating, in PyTorch and in Triton, against a loop over cells in float64."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from diffsegkit.errors import BackendError
from diffsegkit.kernels import accumulate_upsampled, kernel_backend
from diffsegkit.kernels.accumulate_upsampled import reference
from diffsegkit.kernels.accumulate_upsampled.reference import resize_keys

KERNEL = ["_accumulate_upsampled_kernel"]

# (grid, target) of whole ratios: doubled; 2 by 3; one cell; nothing to upsample; one axis only; odd.
WHOLE = [
    ((4, 4), (8, 8)),
    ((2, 3), (4, 9)),
    ((1, 1), (3, 5)),
    ((1, 1), (1, 1)),
    ((3, 5), (3, 5)),
    ((2, 3), (10, 3)),
    ((1, 6), (1, 18)),
    ((3, 2), (12, 6)),
]
# Finer, coarser, and both.
OTHER = [((4, 5), (7, 6)), ((2, 23), (2, 45)), ((5, 7), (3, 2)), ((6, 4), (3, 8)), ((8, 8), (2, 2))]

backends = pytest.mark.parametrize("backend", ["torch", "triton"])


def interpolation(old, new):
    """``(new, old)``: bilinear weights along one axis, centre by centre."""
    weights = np.zeros((new, old))
    for cell in range(new):
        position = min(max((cell + 0.5) * old / new - 0.5, 0), old - 1)
        before = int(position)
        weights[cell, before] += 1 - (position - before)
        weights[cell, min(before + 1, old - 1)] += position - before
    return weights


def definition(probs, grid, target):
    """``(B, N, N)`` that sums to 1: what is to be added, for growing grids."""
    maps = probs.double().cpu().numpy().reshape(len(probs), -1, *grid)
    rows, columns = (interpolation(old, new) for old, new in zip(grid, target, strict=True))
    maps = np.einsum("Yy,Xx,bqyx->bqYX", rows, columns, maps)
    maps /= maps.sum((2, 3), keepdims=True)
    added = np.empty((len(probs), *target, target[0] * target[1]))
    for row in range(target[0]):
        for column in range(target[1]):
            nearest = int((row + 0.5) * grid[0] / target[0]) * grid[1] + int(
                (column + 0.5) * grid[1] / target[1]
            )
            added[:, row, column] = maps[:, nearest].reshape(len(probs), -1)
    return torch.from_numpy(added.reshape(len(probs), target[0] * target[1], -1)).to(probs.device)


def problem(grid, target, device, images=2, seed=0, dtype=torch.float32):
    """An aggregate that is not empty, and maps that do not sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    out, coarse = target[0] * target[1], grid[0] * grid[1]
    probs = torch.rand(images, coarse, coarse, generator=generator) ** 3 + 0.01
    return torch.rand(images, out, out, generator=generator).to(device), probs.to(device, dtype)


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


@backends
@pytest.mark.parametrize(("grid", "target"), WHOLE, ids=str)
def test_matches_the_definition(device, poisoned, launched, grid, target, backend):
    out, probs = problem(grid, target, device)
    expected = out.double() + 0.3 * definition(probs, grid, target)
    returned = accumulate_upsampled(out, probs, grid, 0.3, target=target, backend=backend)
    assert returned is out
    assert launched == (KERNEL if backend == "triton" else [])
    close(out, expected)


@pytest.mark.parametrize(("grid", "target"), OTHER[:2], ids=str)
def test_other_ratios_match_the_definition(device, launched, grid, target):
    out, probs = problem(grid, target, device)
    expected = out.double() + 0.3 * definition(probs, grid, target)
    with kernel_backend("auto"):
        accumulate_upsampled(out, probs, grid, 0.3, target=target)
    assert launched == []
    close(out, expected)


@pytest.mark.parametrize(("grid", "target"), OTHER[2:], ids=str)
def test_shrinking_is_antialiased(device, grid, target):
    out, probs = problem(grid, target, device)
    before = out.double()
    accumulate_upsampled(out, probs, grid, 0.3, target=target)
    maps = probs.double().view(2, -1, *grid)
    maps = functional.interpolate(maps, size=target, mode="bilinear", antialias=True).flatten(2)
    maps /= maps.sum(-1, keepdim=True)
    rows, columns = (
        [(2 * cell + 1) * old // (2 * new) for cell in range(new)]
        for old, new in zip(grid, target, strict=True)
    )
    nearest = [row * grid[1] + column for row in rows for column in columns]
    close(out, before + 0.3 * maps[:, nearest])


@backends
def test_by_hand(device, backend):
    """Two columns become four: quarters of the way. Rows are repeated, and weights applied."""
    probs = torch.tensor([[[4.0, 0.0], [1.0, 3.0]]], device=device)
    out = torch.ones(1, 4, 4, device=device)
    accumulate_upsampled(out, probs, (1, 2), 8.0, target=(1, 4), backend=backend)
    first, second = [5.0, 4.0, 2.0, 1.0], [2.0, 2.5, 3.5, 4.0]
    assert out[0].tolist() == [first, first, second, second]


sides, ratios = st.integers(1, 4), st.integers(1, 3)


@backends
@given(
    grid=st.tuples(sides, sides),
    ratio=st.tuples(ratios, ratios),
    seed=st.integers(0, 10**6),
    weight=st.floats(-2, 3),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_map_grows_by_the_weight(device, backend, grid, ratio, seed, weight):
    target = grid[0] * ratio[0], grid[1] * ratio[1]
    out, probs = problem(grid, target, device, images=1, seed=seed)
    expected = out.sum(-1) + weight
    accumulate_upsampled(out, probs, grid, weight, target=target, backend=backend)
    torch.testing.assert_close(out.sum(-1), expected, atol=1e-5, rtol=1e-5)


@backends
@pytest.mark.parametrize("grid", [(4, 2), (2, 2), (8, 4)])
@pytest.mark.parametrize("rows", [4, 3])
def test_bands_are_the_whole(device, poisoned, grid, rows, backend):
    """Views of some rows of the aggregate, cut between the repetitions of a coarse row, or not."""
    target = (8, 4)
    repeats = target[0] // grid[0]
    whole, probs = problem(grid, target, device)
    banded = whole.clone()
    accumulate_upsampled(whole, probs, grid, 0.3, backend=backend, target=target)
    for start in range(0, target[0], rows):
        stop = min(start + rows, target[0])
        aligned = start % repeats == stop % repeats == 0
        bands = [(start, stop)] if aligned else [(row, row + 1) for row in range(start, stop)]
        for first, last in bands:
            accumulate_upsampled(
                banded[:, first * target[1] : last * target[1]],
                probs[:, first // repeats * grid[1] : -(-last // repeats) * grid[1]],
                grid, 0.3, target=target, backend=backend,
            )  # fmt: skip
    close(banded, whole.double())


@backends
def test_a_band_of_part_of_a_repetition(device, backend):
    """Three of the four rows that one coarse row is repeated to."""
    out, probs = problem((2, 3), (8, 6), device)
    expected = (out.double() + definition(probs, (2, 3), (8, 6)))[:, 24:42]
    part = out[:, 24:42]
    accumulate_upsampled(part, probs[:, 3:], (2, 3), target=(8, 6), backend=backend)
    close(part, expected)


@backends
def test_only_the_view_is_written(device, poisoned, backend):
    """Every second query of some images, and rows within wider ones."""
    _, probs = problem((2, 3), (4, 6), device)
    larger = torch.rand(4, 48, 30, device=device)
    before = larger.clone()
    view = larger[1::2, ::2, 3:27]
    expected = view.double() + definition(probs, (2, 3), (4, 6))
    accumulate_upsampled(view, probs, (2, 3), backend=backend)
    close(view, expected)
    view.copy_(before[1::2, ::2, 3:27])
    assert torch.equal(larger, before)


@backends
def test_maps_may_be_views(device, backend):
    out, probs = problem((2, 3), (4, 6), device)
    expected = out.double() + definition(probs, (2, 3), (4, 6))
    for view in (probs.mT.contiguous().mT, torch.cat([probs, probs], 2)[:, :, :6]):
        close(accumulate_upsampled(out.clone(), view, (2, 3), backend=backend), expected)


@backends
def test_a_batch_is_a_loop(device, poisoned, backend):
    out, probs = problem((2, 3), (4, 6), device, images=3)
    alone = out.clone()
    accumulate_upsampled(out, probs, (2, 3), 0.3, backend=backend)
    for image in range(3):
        one = slice(image, image + 1)
        accumulate_upsampled(alone[one], probs[one], (2, 3), 0.3, backend=backend)
    torch.testing.assert_close(alone, out)


@backends
@pytest.mark.parametrize("grid", [(550, 2), (1100, 4)])
def test_maps_larger_than_a_block(device, poisoned, launched, grid, backend):
    """4400 keys, for two rows of queries of a grid that is narrow."""
    generator = torch.Generator().manual_seed(0)
    target, cells = (1100, 4), grid[0] * grid[1]
    probs = torch.rand(1, 2 * grid[1], cells, generator=generator).to(device)
    out = torch.zeros(1, 2 * target[1], 4400, device=device)
    accumulate_upsampled(out, probs, grid, 4400.0, target=target, backend=backend)
    assert launched == (KERNEL if backend == "triton" else [])
    maps = probs.double().view(1, -1, *grid)
    maps = functional.interpolate(maps, size=target, mode="bilinear").flatten(2)
    maps *= 4400 / maps.sum(-1, keepdim=True)
    across = target[1] // grid[1]
    expected = maps.view(1, 2, grid[1], 1, -1).expand(-1, -1, -1, across, -1).reshape(out.shape)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


@backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [(2, 3), (4, 6)])
def test_half_precision_is_widened(device, poisoned, dtype, target, backend):
    out, probs = problem((2, 3), target, device, dtype=dtype)
    expected = out.double() + 0.3 * definition(probs, (2, 3), target)
    close(accumulate_upsampled(out, probs, (2, 3), 0.3, backend=backend), expected)


@pytest.mark.parametrize("target", [(3, 4), (6, 8), (5, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float64_stays_what_it_is(device, target, dtype):
    out, probs = problem((3, 4), target, device, dtype=dtype)
    out = out.double()
    expected = out + 0.3 * definition(probs, (3, 4), target)
    accumulate_upsampled(out, probs, (3, 4), 0.3, target=target)
    torch.testing.assert_close(out, expected, atol=1e-13, rtol=1e-12)


@backends
@pytest.mark.parametrize("target", [(2, 2), (4, 4)])
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_maps_that_are_none_are_seen(device, target, backend):
    """NaN anywhere in a map, or nothing but zeros, spoils the queries that take it, and no other."""
    out, probs = problem((2, 2), target, device)
    probs[0, 1, 3] = torch.nan
    probs[1, 2] = 0
    accumulate_upsampled(out, probs, (2, 2), backend=backend)
    ratio = target[0] // 2
    spoilt = out.isnan().view(2, 2, ratio, 2, ratio, -1)
    assert spoilt[0, 0, :, 1].all()
    assert spoilt[1, 1, :, 0].all()
    assert spoilt.sum() == 2 * ratio**2 * target[0] * target[1]


@pytest.mark.parametrize("target", [(3, 4), (6, 8), (9, 4), (4, 7), (2, 4)])
@pytest.mark.parametrize("block", [1, 2**12, 2**30])
def test_blocks_do_not_change_the_result(monkeypatch, target, block):
    out, probs = problem((3, 4), target, "cpu")
    expected = out.clone()
    accumulate_upsampled(expected, probs, (3, 4), target=target)
    monkeypatch.setattr(reference, "_BLOCK_BYTES", {"cpu": block})
    accumulate_upsampled(out, probs, (3, 4), target=target)
    torch.testing.assert_close(out, expected)


class Largest(TorchDispatchMode):
    """The largest tensor, in entries, that is made while it is active and is no view of ``out``."""

    def __init__(self, out):
        super().__init__()
        self.storage, self.entries = out.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() != self.storage:
            self.entries = max(self.entries, made.numel())
        return made


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (20, 20), (32, 32)])
def test_nothing_as_large_as_the_aggregate_is_made(grid):
    out, probs = torch.zeros(1, 1024, 1024), torch.rand(1, grid[0] ** 2, grid[0] ** 2)
    with Largest(out) as largest:
        accumulate_upsampled(out, probs, grid, target=(32, 32))
    assert 0 < largest.entries <= max(2**19, probs.numel())


def test_no_gradient_is_kept():
    out, probs = problem((2, 2), (4, 4), "cpu")
    accumulate_upsampled(out, probs.requires_grad_(), (2, 2))
    assert not out.requires_grad


def test_in_and_out_of_inference_mode():
    """What is kept between calls may be made in one and used in the other."""
    out, probs = problem((2, 2), (14, 22), "cpu")
    with torch.inference_mode():
        accumulate_upsampled(out.clone(), probs, (2, 2), target=(14, 22))
    keys = resize_keys(probs.requires_grad_(), (2, 2), (14, 22))
    keys[..., 0].sum().backward()
    assert probs.grad.abs().sum() > 0


@pytest.mark.parametrize(("grid", "target"), WHOLE + OTHER, ids=str)
def test_resized_keys(grid, target):
    """Any leading axes, any ratio."""
    _, probs = problem(grid, target, "cpu")
    shrinks = target[0] < grid[0] or target[1] < grid[1]
    maps = functional.interpolate(
        probs.double().view(2, -1, *grid), size=target, mode="bilinear", antialias=shrinks
    ).flatten(2)
    expected = 0.3 * maps / maps.sum(-1, keepdim=True)
    close(resize_keys(probs, grid, target, 0.3), expected)
    close(resize_keys(probs[0, 0], grid, target, 0.3), expected[0, 0])


def test_which_one_runs(device, launched):
    out, probs = problem((2, 2), (4, 4), device)
    with kernel_backend("triton"):
        accumulate_upsampled(out, probs, (2, 2))
        assert launched == KERNEL
        with pytest.raises(BackendError, match="accumulate_upsampled cannot run .* float64"):
            accumulate_upsampled(out.double(), probs, (2, 2))
    accumulate_upsampled(out.cpu(), probs.cpu(), (2, 2))
    assert launched == KERNEL
    out, probs = problem((2, 2), (4, 5), device)
    with pytest.raises(BackendError, match=r"\(4, 5\) is no whole multiple of \(2, 2\) along both"):
        accumulate_upsampled(out, probs, (2, 2), target=(4, 5), backend="triton")
    with pytest.raises(ValueError, match="`backend` to be one of"):
        accumulate_upsampled(out, probs, (2, 2), target=(4, 5), backend="cuda")


GOOD = {"out": torch.zeros(2, 24, 24), "probs": torch.ones(2, 6, 6), "grid": (2, 3)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"grid": (0, 3)}, r"argument `grid` .* positive integers, but got \(0, 3\)"),
        ({"grid": (-2, -3)}, "argument `grid` .* positive integers"),
        ({"grid": 6}, "argument `grid` .* tuple"),
        ({"target": (4, -6)}, "argument `target` .* positive integers"),
        ({"grid": (2, 4)}, r"`probs` to be of shape \(B, q, 8\) .* but got \(2, 6, 6\)"),
        ({"probs": torch.ones(6, 6)}, r"`probs` .* but got \(6, 6\)"),
        ({"probs": torch.ones(2, 0, 6)}, "`probs` .* not empty"),
        ({"probs": torch.ones(1, 6, 6)}, r"`out` to be of shape \(1, Q, H\*W\)"),
        ({"out": torch.zeros(24, 24)}, r"`out` .* but got \(24, 24\)"),
        ({"out": torch.zeros(2, 24, 24).half()}, "`out` to be float32 or float64, but got .*16"),
        ({"out": torch.zeros(2, 24, 24).mT}, r"`out` .* one piece .* strides \(576, 1, 24\)"),
        ({"probs": torch.ones(2, 6, 6).long()}, "`probs` to be floating point, .* got torch.int64"),
        ({"probs": torch.ones(2, 6, 6).double()}, "float64 only if `out` is, but got torch.float64"),
        ({"out": torch.zeros(2, 24, 24, device="meta")}, "on one device, but got meta and cpu"),
        ({"out": torch.zeros(2, 12, 12)}, r"`target` to be given, because 12 keys .* \(2, 3\)"),
        ({"out": torch.zeros(2, 3, 3)}, "`target` to be given, because 3 keys"),
        ({"target": (4, 5)}, r"`target` to be a grid of the 24 keys .* got \(4, 5\)"),
        ({"out": torch.zeros(2, 23, 24)}, r"bands of whole rows .* got 23 on a grid of \(4, 6\)"),
        ({"probs": torch.ones(2, 5, 6)}, r"bands of whole rows .* and 5 on a grid of \(2, 3\)"),
        ({"out": torch.zeros(2, 18, 24)}, "one number divides the other, but got 18"),
        ({"out": torch.zeros(2, 48, 24)}, "bands of whole rows .* got 48"),
        ({"probs": torch.ones(2, 12, 6)}, "bands of whole rows .* and 12"),
        ({"out": torch.zeros(2, 12, 24), "target": (3, 8)}, "whole grids, because .* got 12"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)  # fmt: skip
def test_wrong_inputs_are_told(changed, message):
    with pytest.raises(ValueError, match=message):
        accumulate_upsampled(**(GOOD | changed))
