"""The argmax of upsampled maps against PyTorch's own upsampling in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from diffsegkit.errors import BackendError
from diffsegkit.kernels import kernel_backend, upsampled_argmax
from diffsegkit.kernels.upsampled_argmax import reference
from tests.kernels.conftest import DEVICE

KERNELS = {"torch": [], "triton": ["_upsampled_argmax_kernel"]}

# Maps, their grid, and the size in pixels: up, down, both, odd, a point, and more than one tile.
SHAPES = [
    (6, (8, 8), (64, 64)),
    (5, (40, 30), (7, 3)),
    (3, (4, 25), (30, 6)),
    (1, (3, 4), (9, 10)),
    (4, (1, 1), (5, 6)),
    (4, (3, 5), (1, 1)),
    (7, (1, 9), (1, 300)),
    (3, (9, 1), (70, 1)),
    (8, (7, 9), (61, 150)),
    (100, (3, 3), (5, 9)),
]


def random_maps(number, grid, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, *grid, generator=generator).to(dtype)


def smooth_maps(number, grid, seed=0):
    """As merging makes them: in most places few of them are anywhere near the largest."""
    coarse = torch.randn(1, number, 4, 4, generator=torch.Generator().manual_seed(seed)) * 3
    logits = functional.interpolate(coarse, grid, mode="bicubic")[0]
    return torch.softmax(logits.flatten(1), 1).reshape(number, *grid)


def whole(maps, size):
    """What the original does, in float64: every map at pixel size."""
    return functional.interpolate(maps.cpu().double()[None], size=size, mode="bilinear")[0]


def assert_largest(labels, maps, size):
    """That the largest map wins wherever rounding cannot decide, and a largest one elsewhere."""
    values = whole(maps, size)
    best = values.topk(min(2, len(values)), 0)
    rounding = 1e-6 * values.abs().max()
    assert labels.dtype == torch.int64
    assert labels.shape == size
    chosen = values.gather(0, labels.cpu()[None])[0]
    assert (best.values[0] - chosen).max() <= rounding
    clear = best.values[0] - best.values[-1] > rounding
    assert torch.equal(labels.cpu()[clear], best.indices[0][clear])


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize(("number", "grid", "size"), SHAPES, ids=str)
def test_matches_whole_maps(device, poisoned, launched, backend, number, grid, size):
    for make in (random_maps, smooth_maps):
        maps = make(number, grid).to(device)
        assert_largest(upsampled_argmax(maps, size, backend=backend), maps, size)
    assert launched == KERNELS[backend] * 2


sides = st.integers(1, 40)
cells = st.integers(1, 9)


@pytest.mark.parametrize("backend", KERNELS)
@given(number=st.integers(1, 6), grid=st.tuples(cells, cells), size=st.tuples(sides, sides),
       seed=st.integers(0, 999))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_matches_whole_maps_of_any_shape(backend, number, grid, size, seed):
    maps = random_maps(number, grid, seed).to(DEVICE)
    assert_largest(upsampled_argmax(maps, size, backend=backend), maps, size)


@given(number=st.integers(1, 6), grid=st.tuples(cells, cells), size=st.tuples(sides, sides),
       seed=st.integers(0, 999))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_double_precision(number, grid, size, seed):
    """Where float64 decides, down to its own rounding."""
    maps = 1 + 1e-9 * random_maps(number, grid, seed, torch.float64)
    values = whole(maps, size)
    chosen = values.gather(0, upsampled_argmax(maps, size)[None])[0]
    assert (values.max(0).values - chosen).max() < 1e-14


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(device, poisoned, launched, backend, dtype):
    maps = random_maps(5, (6, 7), dtype=dtype).to(device)
    assert_largest(upsampled_argmax(maps, (50, 41), backend=backend), maps, (50, 41))
    assert launched == KERNELS[backend]


@pytest.mark.parametrize("backend", KERNELS)
def test_views_and_gradients(device, poisoned, backend):
    """Maps that do not follow each other in memory, and maps that something trains."""
    maps = random_maps(8, (10, 6)).to(device)
    for view in (maps.mT, maps[::2], maps[:, 1:7, ::3], maps[:1].expand(3, 10, 6)):
        expected = upsampled_argmax(view.clone(), (19, 20), backend=backend)
        assert torch.equal(upsampled_argmax(view, (19, 20), backend=backend), expected)
    trained = maps.clone().requires_grad_()
    found = upsampled_argmax(trained, (19, 20), backend=backend)
    assert torch.equal(found, upsampled_argmax(maps, (19, 20), backend=backend))


@pytest.mark.parametrize("backend", KERNELS)
def test_negative_and_large_values(device, poisoned, backend):
    """Logits rather than probabilities."""
    maps = -1000 * random_maps(5, (6, 7)).to(device) - 1
    assert_largest(upsampled_argmax(maps, (30, 41), backend=backend), maps, (30, 41))


@pytest.mark.parametrize("backend", KERNELS)
def test_permuting_maps_permutes_labels(device, backend):
    maps = random_maps(5, (6, 6)).to(device)
    order = torch.tensor([3, 0, 4, 1, 2], device=device)
    labels = upsampled_argmax(maps, (37, 30), backend=backend)
    assert torch.equal(order[upsampled_argmax(maps[order], (37, 30), backend=backend)], labels)


@pytest.mark.parametrize("backend", KERNELS)
def test_transposing_and_flipping(device, backend):
    """An image on its side has its labels on their side, but for rounding."""
    maps = random_maps(5, (6, 9)).to(device)
    labels = upsampled_argmax(maps, (37, 50), backend=backend)
    for turned in (
        upsampled_argmax(maps.mT, (50, 37), backend=backend).mT,
        upsampled_argmax(maps.flip(1), (37, 50), backend=backend).flip(0),
        upsampled_argmax(maps.flip(2), (37, 50), backend=backend).flip(1),
    ):
        assert_largest(turned, maps, (37, 50))
        assert (turned == labels).float().mean() > 0.99


@pytest.mark.parametrize("backend", KERNELS)
def test_the_first_of_equals_wins(device, backend):
    same = torch.full((3, 2, 2), 0.25, device=device)
    assert (upsampled_argmax(same, (40, 40), backend=backend) == 0).all()
    once = random_maps(4, (5, 5)).to(device)
    labels = upsampled_argmax(once, (44, 40), backend=backend)
    assert labels.unique().tolist() == [0, 1, 2, 3]
    twice = torch.cat([once, once])
    assert torch.equal(upsampled_argmax(twice, (44, 40), backend=backend), labels)
    assert (upsampled_argmax(torch.zeros_like(twice), (44, 40), backend=backend) == 0).all()


@pytest.mark.parametrize("backend", KERNELS)
def test_half_pixel_centres_by_hand(device, backend):
    """Two cells to six pixels: 0.7, 0.7, 0.57 | 0.43, 0.3, 0.3 against a map that is 0.45."""
    maps = torch.tensor([[[0.7, 0.3]], [[0.45, 0.45]]], device=device)
    expected = [[0, 0, 0, 1, 1, 1]]
    assert upsampled_argmax(maps, (1, 6), backend=backend).tolist() == expected
    assert upsampled_argmax(maps.mT, (6, 1), backend=backend).mT.tolist() == expected


@pytest.mark.parametrize("backend", KERNELS)
def test_nan_never_wins(device, poisoned, backend):
    maps = random_maps(5, (8, 8)).to(device)
    maps[0, 2, 3] = maps[3, 4:6] = maps[4] = torch.nan
    maps[0:3, 7, 7] = maps[3, 7, 7] = torch.nan
    labels = upsampled_argmax(maps, (64, 64), backend=backend).cpu()
    values = whole(maps, (64, 64))
    assert torch.equal(labels, values.nan_to_num(nan=-math.inf).argmax(0))
    assert labels[-1, -1] == 0
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("backend", KERNELS)
def test_where_infinities_give_nan_another_wins(device, poisoned, backend):
    """Though everything else of the first map is above all of the second."""
    maps = torch.tensor([[[3.0, math.inf, 3, 3]], [[1, 1, 1, 1]], [[0, 0, 0, 0]]], device=device)
    expected = [[1] * 10 + [0] * 6]  # up to the last pixel that has the infinity beside it
    assert upsampled_argmax(maps, (1, 16), backend=backend).tolist() == expected
    maps[:2] = -math.inf
    maps[2] = torch.nan
    assert (upsampled_argmax(maps, (1, 16), backend=backend) == 0).all()


def test_tiles_and_bands_change_nothing(monkeypatch):
    """However an image is cut up; one tile for all leaves no map out."""
    maps = torch.cat([smooth_maps(9, (17, 16)), random_maps(3, (17, 16)) / 300])
    monkeypatch.setattr(reference, "_MIN_TILE_PIXELS", 200)
    monkeypatch.setattr(reference, "_MAX_TILE_PIXELS", 200)
    expected = upsampled_argmax(maps, (150, 141))
    assert len(expected.unique()) > 5
    for least, most, band in ((1, 1, 500), (1, 7, 1), (32, 128, 2**18), (41, 41, 9000)):
        monkeypatch.setattr(reference, "_MIN_TILE_PIXELS", least)
        monkeypatch.setattr(reference, "_MAX_TILE_PIXELS", most)
        monkeypatch.setattr(reference, "_BAND_PIXELS", band)
        assert torch.equal(upsampled_argmax(maps, (150, 141)), expected)


def test_a_context_decides_for_auto(device, launched):
    maps = random_maps(2, (2, 2)).to(device)
    with kernel_backend("triton"):
        upsampled_argmax(maps, (3, 3))
        upsampled_argmax(maps, (3, 3), backend="torch")
    assert launched == KERNELS["triton"]
    upsampled_argmax(maps.cpu(), (3, 3))
    assert launched == KERNELS["triton"]
    with pytest.raises(BackendError, match="upsampled_argmax cannot run .* float64"):
        upsampled_argmax(maps.double(), (3, 3), backend="triton")


@pytest.mark.parametrize(
    ("maps", "size", "message"),
    [
        (torch.ones(2, 2), (3, 3), r"`maps` to be of shape \(K, h, w\).* got \(2, 2\)"),
        (torch.ones(0, 2, 2), (3, 3), r"none of them 0, but got \(0, 2, 2\)"),
        (torch.ones(1, 2, 0), (3, 3), r"none of them 0, but got \(1, 2, 0\)"),
        (torch.ones(1, 2, 2, dtype=torch.int64), (3, 3), "`maps` to be floating point, but got"),
        (torch.ones(1, 2, 2), (0, 3), r"\(height, width\) > 0, but got \(0, 3\)"),
        (torch.ones(1, 2, 2), (3,), r"\(height, width\) > 0, but got \(3,\)"),
    ],
)
def test_wrong_inputs(maps, size, message):
    with pytest.raises(ValueError, match=message):
        upsampled_argmax(maps, size)
    with pytest.raises(ValueError, match="`backend` to be one of"):
        upsampled_argmax(torch.ones(1, 1, 1), (1, 1), backend="cuda")
