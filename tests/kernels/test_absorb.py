"""Round 0 of merging against its definition in float64, in PyTorch and in Triton."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit.kernels import absorb, pairwise_kl
from diffsegkit.kernels.pairwise_kl import reference
from tests.kernels.test_pairwise_kl import definition, distributions

KERNELS = {"torch": [], "triton": ["_mark_close_kernel", "_add_sums_kernel"]}


def halfway(distances, share):
    """A threshold that no distance is near, so that rounding cannot decide."""
    ordered = distances.flatten().sort().values
    index = int(share * (len(ordered) - 1))
    gaps = ordered[index + 1 :] - ordered[index:-1]
    if len(gaps) == 0 or gaps.max() < 1e-6:
        return float(ordered[-1]) + 1.0
    index += int(gaps.argmax())
    return float(ordered[index : index + 2].mean())


def expected(anchors, maps, threshold):
    """Members and sums, in float64 and entry by entry."""
    members = definition(anchors.cpu(), maps.cpu()) < threshold
    sums = torch.stack([maps.cpu().double()[row].sum(0) for row in members])
    return members, sums


@pytest.mark.parametrize("precision", ["float32", "fast"])
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 5, 3), (7, 1, 40), (64, 64, 64), (65, 130, 33), (3, 70, 300)], ids=str
)
def test_matches_the_definition(device, poisoned, launched, shape, backend, precision):
    rows, columns, locations = shape
    anchors = distributions(0, rows, locations, 2.0).float().to(device)
    maps = distributions(1, columns, locations, 2.0).float().to(device)
    threshold = halfway(definition(anchors.cpu(), maps.cpu()), 0.4)
    found, sums = absorb(anchors, maps, threshold, backend=backend, precision=precision)
    assert launched == KERNELS[backend]
    members, total = expected(anchors, maps, threshold)
    assert found.dtype == torch.bool
    assert torch.equal(found.cpu(), members)
    torch.testing.assert_close(sums.cpu().double(), total, atol=1e-6, rtol=1e-5)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_double_precision(rows, columns, locations, seed):
    anchors, maps = (
        distributions(seed, rows, locations),
        distributions(seed + 1, columns, locations),
    )
    threshold = halfway(definition(anchors, maps), 0.5)
    found, sums = absorb(anchors, maps, threshold)
    members, total = expected(anchors, maps, threshold)
    assert torch.equal(found, members)
    torch.testing.assert_close(sums, total)


@pytest.mark.parametrize("backend", KERNELS)
def test_maps_may_come_in_parts(device, backend):
    maps = distributions(0, 90, 50, 2.0).float().to(device)
    locations = torch.tensor([3, 40, 89], device=device)
    whole, total = absorb(maps[locations], maps, 0.6, locations=locations, backend=backend)
    sums, parts = torch.zeros_like(total), []
    for start in range(0, 90, 32):
        part, returned = absorb(
            maps[locations], maps[start : start + 32], 0.6, locations=locations - start, out=sums,
            backend=backend,
        )  # fmt: skip
        assert returned is sums
        parts.append(part)
    assert torch.equal(torch.cat(parts, 1), whole)
    torch.testing.assert_close(sums, total, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", KERNELS)
def test_an_anchor_always_has_itself(device, backend):
    """Even at a threshold below what rounding leaves of D(x, x)."""
    maps = distributions(0, 70, 300, 3.0).float().to(device)
    locations = torch.tensor([69, 0, 7], device=device)
    members, sums = absorb(maps[locations], maps, 1e-30, locations=locations, backend=backend)
    assert members.nonzero().tolist() == [[0, 69], [1, 0], [2, 7]]
    torch.testing.assert_close(sums, maps[locations], atol=1e-7, rtol=1e-6)
    nothing, zeros = absorb(maps[locations], maps[10:20], 1e-30, locations=locations - 10)
    assert not nothing.any()
    assert not zeros.any()


@pytest.mark.parametrize("backend", KERNELS)
def test_what_is_not_a_number_is_close_to_nothing(device, backend):
    maps = torch.full((3, 4), 0.25, device=device)
    broken = maps.clone()
    broken[1] = torch.nan
    members, sums = absorb(broken, broken, 1.0, values=maps, backend=backend)
    assert members.tolist() == [[True, False, True], [False] * 3, [True, False, True]]
    assert sums.tolist() == [[0.5] * 4, [0.0] * 4, [0.5] * 4]


@pytest.mark.parametrize("backend", KERNELS)
def test_sums_are_of_the_values(device, backend):
    maps = distributions(0, 9, 20).float().to(device)
    values = torch.rand(9, 20, device=device)
    members, sums = absorb(maps[:2], maps, 0.5, values=values, backend=backend)
    torch.testing.assert_close(sums, members.float() @ values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(device, backend, dtype):
    maps = distributions(0, 9, 20, 2.0).to(dtype).to(device)
    threshold = halfway(definition(maps[:3].cpu(), maps.cpu()), 0.5)
    members, sums = absorb(maps[:3], maps, threshold, backend=backend)
    assert torch.equal(members.cpu(), expected(maps[:3], maps, threshold)[0])
    assert sums.dtype == torch.float32


def test_strict_comparison():
    """What is exactly as far away as the threshold stays out."""
    maps = distributions(0, 3, 40)
    distance = pairwise_kl(maps[:1], maps[1:2]).item()
    assert not absorb(maps[:1], maps[1:2], distance)[0].any()
    assert absorb(maps[:1], maps[1:2], distance * (1 + 1e-12))[0].all()


def test_no_more_than_a_block_is_computed_at_a_time(monkeypatch):
    """The logarithm of all maps is never in memory."""
    monkeypatch.setattr(reference, "_BLOCK_BYTES", {"cpu": 7 * 50 * 4})
    maps, largest = distributions(0, 64, 50).float(), []
    logarithm = reference.logarithm

    def watched(block):
        largest.append(len(block))
        return logarithm(block)

    monkeypatch.setattr(reference, "logarithm", watched)
    members, sums = absorb(maps[:3], maps, 0.7)
    assert max(largest) == 7
    monkeypatch.undo()
    again, total = absorb(maps[:3], maps, 0.7)
    assert torch.equal(members, again)
    torch.testing.assert_close(sums, total)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": torch.ones(3)}, r"`anchors` to be floating point of shape \(rows, N\)"),
        ({"maps": torch.ones(2, 5)}, "one number of locations"),
        ({"values": torch.ones(3, 4)}, "as many values as maps"),
        ({"values": torch.ones(2, 4).double()}, "float64 only if"),
        ({"locations": torch.zeros(2, dtype=torch.int64)}, r"int64 of shape \(3,\)"),
        ({"locations": torch.zeros(3)}, r"int64 of shape \(3,\)"),
        ({"out": torch.zeros(2, 4)}, r"`out` to be torch.float32 of shape \(3, 4\)"),
        ({"threshold": 0.0}, "`threshold` to be above 0"),
        ({"threshold": float("nan")}, "`threshold` to be above 0"),
        ({"precision": "double"}, "`precision` to be one of"),
        ({"backend": "numpy"}, "`backend` to be one of"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {"anchors": torch.ones(3, 4), "maps": torch.ones(2, 4), "threshold": 1.0}
    with pytest.raises(ValueError, match=message):
        absorb(**{**arguments, **change})
