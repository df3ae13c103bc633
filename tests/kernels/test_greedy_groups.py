"""The walk of the later merging rounds against sets of plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit.errors import BackendError
from diffsegkit.kernels import greedy_groups, kernel_backend
from tests.kernels.conftest import DEVICE

KERNELS = {"torch": [], "triton": ["_greedy_groups_kernel"]}


def walk(close, overlap):
    """The paper's order of steps: ``[(seed, its group)]``."""
    taken, groups = set(), []
    for seed, row in enumerate(close.tolist()):
        if seed in taken:
            continue
        group = {other for other, near in enumerate(row) if near}
        if not overlap:
            group -= taken
        taken |= group
        groups.append((seed, group))
    return groups


def assert_walked(found, close, overlap):
    members, seeds = found
    expected = walk(close, overlap)
    assert members.dtype == torch.bool
    assert seeds.dtype == torch.int64
    assert members.shape == (len(expected), len(close))
    assert members.device == seeds.device == close.device
    assert seeds.tolist() == [seed for seed, _ in expected]
    for row, (_, group) in zip(members.tolist(), expected, strict=True):
        assert {other for other, member in enumerate(row) if member} == group


def points(number, reach, seed=0):
    """Symmetric, everyone close to itself, and not transitive: points in a square."""
    places = torch.rand(number, 2, generator=torch.Generator().manual_seed(seed))
    return (torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist") < reach).to(
        DEVICE
    )


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("number", [1, 2, 5, 31, 32, 33, 64, 100, 256, 300])
def test_matches_sets(poisoned, launched, number, backend, overlap):
    for reach in (0.3, 0.1):
        close = points(number, reach)
        assert_walked(greedy_groups(close, overlap=overlap, backend=backend), close, overlap)
    assert launched == KERNELS[backend] * 2


@pytest.mark.parametrize("backend", KERNELS)
@given(number=st.integers(0, 20), share=st.floats(0, 1), diagonal=st.booleans(),
       overlap=st.booleans(), seed=st.integers(0, 10**6))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_matrix(backend, number, share, diagonal, overlap, seed):
    """Neither symmetric nor true on the diagonal: a seed that its group lacks is passed once."""
    generator = torch.Generator().manual_seed(seed)
    close = (torch.rand(number, number, generator=generator) < share).to(DEVICE)
    if diagonal:
        close.fill_diagonal_(True)
    assert_walked(greedy_groups(close, overlap=overlap, backend=backend), close, overlap)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("backend", KERNELS)
def test_many_candidates(poisoned, launched, backend, overlap):
    close = points(4096, 0.4)
    assert_walked(greedy_groups(close, overlap=overlap, backend=backend), close, overlap)
    assert launched == KERNELS[backend]


@pytest.mark.parametrize("backend", KERNELS)
def test_all_alike_or_all_apart(backend):
    for number in (1, 7, 130):
        members, seeds = greedy_groups(
            torch.ones(number, number, device=DEVICE).bool(), backend=backend
        )
        assert members.tolist() == [[True] * number]
        assert seeds.tolist() == [0]
        apart = torch.eye(number, device=DEVICE).bool()
        members, seeds = greedy_groups(apart, backend=backend)
        assert torch.equal(members, apart)
        assert seeds.tolist() == list(range(number))
        members, seeds = greedy_groups(~apart, backend=backend)
        assert_walked((members, seeds), ~apart, True)


@pytest.mark.parametrize("backend", KERNELS)
def test_groups_cover_everything(backend):
    close = points(90, 0.25)
    members, seeds = greedy_groups(close, backend=backend)
    assert members.any(0).all()
    assert (members.sum(0) > 1).any()
    assert members[torch.arange(len(seeds)), seeds].all()
    members, _ = greedy_groups(close, overlap=False, backend=backend)
    assert (members.sum(0) == 1).all()


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("backend", KERNELS)
def test_renumbering_within_an_order_changes_nothing_else(backend, overlap):
    """Candidates nobody is close to, put between the others, are groups of their own."""
    close = points(40, 0.3)
    kept = torch.arange(0, 80, 2, device=DEVICE)
    wide = torch.eye(80, device=DEVICE).bool()
    wide[kept[:, None], kept] = close
    members, seeds = greedy_groups(close, overlap=overlap, backend=backend)
    more, more_seeds = greedy_groups(wide, overlap=overlap, backend=backend)
    assert len(more) == len(members) + 40
    ours = more_seeds % 2 == 0
    assert torch.equal(more[ours][:, kept], members)
    assert torch.equal(more_seeds[ours], seeds * 2)


@pytest.mark.parametrize("backend", KERNELS)
def test_views(poisoned, backend):
    close = torch.rand(50, 50, generator=torch.Generator().manual_seed(0)).to(DEVICE) < 0.1
    for view in (close.mT, close[::2, ::2], close[3:40, 5:42], close[:1].expand(50, 50)):
        for overlap in (True, False):
            assert_walked(greedy_groups(view, overlap=overlap, backend=backend), view, overlap)


@pytest.mark.parametrize("backend", KERNELS)
def test_the_input_stays_and_nothing_larger_is_kept(backend):
    close = points(60, 0.4)
    before = close.clone()
    members, seeds = greedy_groups(close, backend=backend)
    assert torch.equal(close, before)
    assert members.untyped_storage().nbytes() == members.numel()
    assert seeds.untyped_storage().nbytes() == seeds.numel() * 8
    members.fill_(False)
    assert torch.equal(close, before)


def test_a_context_decides_for_auto(launched, monkeypatch):
    close = points(9, 0.3)
    with kernel_backend("triton"):
        greedy_groups(close)
        greedy_groups(close, backend="torch")
    assert launched == KERNELS["triton"]
    greedy_groups(close.cpu())
    assert launched == KERNELS["triton"]
    monkeypatch.setattr("diffsegkit.kernels.backend._is_installed", lambda: False)
    with pytest.raises(BackendError, match="greedy_groups cannot run .* triton is not installed"):
        greedy_groups(close, backend="triton")


@pytest.mark.parametrize(
    ("close", "message"),
    [
        (torch.ones(3).bool(), r"`close` to be of shape \(K, K\), but got \(3,\)"),
        (torch.ones(3, 2).bool(), r"`close` to be of shape \(K, K\), but got \(3, 2\)"),
        (torch.ones(3, 3), r"`close` to be torch.bool, but got torch.float32"),
    ],
)
def test_wrong_inputs(close, message):
    with pytest.raises(ValueError, match=message):
        greedy_groups(close)
    with pytest.raises(ValueError, match="`backend` to be one of"):
        greedy_groups(torch.ones(1, 1).bool(), backend="cuda")
