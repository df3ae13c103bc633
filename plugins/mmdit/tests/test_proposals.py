"""Text tokens as proposals, and their merging, against Seg4Diff's steps one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit import AggregatedAttention, MergingRound, Proposals, SourceOutput
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.errors import UsageError
from diffsegkit_mmdit import SourceProposalsMerger, token_proposals
from mmdit_reference import dense, make_source, photos, run_pipeline


def seg4diff(attention, threshold, axis):
    """The original's steps in NumPy, one token at a time, in float64.

    Args:
        attention: ``(N, T)``.
        threshold: In nats.
        axis: 1 over tokens, as its code runs; 0 over locations, as its comments say.

    Returns:
        The merged maps ``(M, N)``, the tokens of each, and the token each was grown from.
    """
    lowest = attention.min(axis, keepdims=True)
    stretched = (attention - lowest) / (attention.max(axis, keepdims=True) - lowest + 1e-6)
    exponential = np.exp(stretched.T)
    maps = exponential / exponential.sum(1, keepdims=True)
    taken, merged, members, seeds = set(), [], [], []
    for token, anchor in enumerate(maps):
        if token in taken:
            continue
        group = []
        for other, own in enumerate(maps):
            quotient = np.log(anchor) - np.log(own)
            if (anchor * quotient).sum() / 2 - (own * quotient).sum() / 2 < threshold:
                group.append(other)
        taken |= {token, *group}
        merged.append(maps[group].mean(0))
        members.append(group)
        seeds.append(token)
    return np.stack(merged), members, seeds


def random_attention(tokens=20, grid=(6, 5), seed=0, kinds=4):
    """A few kinds of tokens, each looked at from a region of its own."""
    rng = np.random.default_rng(seed)
    regions = rng.random((grid[0] * grid[1], kinds)) ** 3
    attention = regions[:, rng.integers(kinds, size=tokens)]
    return attention * 0.02 + 0.004 * rng.random((grid[0] * grid[1], tokens))


def merge(proposals, **options):
    output = SourceOutput([], proposals=[proposals])
    count = math.prod(proposals.grid)
    aggregated = AggregatedAttention(torch.eye(count)[None], proposals.grid, output)
    [merged] = SourceProposalsMerger(**options)(aggregated)
    return merged


@pytest.mark.parametrize("threshold", [0.005, 0.01, 0.03, 0.3])
@pytest.mark.parametrize(("normalise", "axis"), [("tokens", 1), ("locations", 0)])
@pytest.mark.parametrize("seed", range(3))
def test_merging_is_the_originals(normalise, axis, threshold, seed):
    attention = random_attention(seed=seed)
    expected, members, seeds = seg4diff(attention, threshold, axis)
    proposals = token_proposals(torch.from_numpy(attention).float(), (6, 5), normalise)
    merged = merge(proposals, threshold=threshold)
    np.testing.assert_allclose(merged.maps.flatten(1), expected, rtol=1e-4)
    assert merged.scores is None
    [merging_round] = merged.rounds
    assert merging_round.threshold == threshold
    found = [row.nonzero().flatten().tolist() for row in merging_round.members]
    assert found == members
    assert merging_round.seeds.tolist() == seeds


def test_the_thresholds_above_tell_merging_apart():
    """From nearly every token by itself over the four kinds there are to one."""
    counts = [len(seg4diff(random_attention(), t, 1)[1]) for t in (0.005, 0.01, 0.03, 0.3)]
    assert counts == [17, 6, 4, 1]


def test_overlapping_and_exclusive_merging():
    """A chain: the second is near both others; whether the third's mean has it is the option."""
    maps = torch.tensor([[0.50, 0.50], [0.40, 0.60], [0.31, 0.69]])
    proposals = Proposals(maps[:, None])
    overlapping = merge(proposals, threshold=0.05)
    torch.testing.assert_close(overlapping.maps[:, 0], torch.tensor([[0.45, 0.55], [0.355, 0.645]]))
    exclusive = merge(proposals, threshold=0.05, overlap=False)
    torch.testing.assert_close(exclusive.maps[:, 0], torch.tensor([[0.45, 0.55], [0.31, 0.69]]))


def test_without_a_threshold_nothing_changes():
    proposals = token_proposals(torch.rand(12, 5), (3, 4))
    assert merge(proposals) is proposals


def test_a_location_goes_to_the_token_it_attends_to_most():
    attention = torch.from_numpy(random_attention()).float()
    proposals = merge(token_proposals(attention, (6, 5)))
    [labels] = ArgmaxAssigner()([proposals], (6, 5))
    assert torch.equal(labels.flatten(), attention.argmax(1))


def test_stretching_by_hand():
    """Two locations, three tokens: 0, 1/2 and 1 of the range of a location, or of a token."""
    attention = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.2, 0.0]])
    e = math.e
    by_location = token_proposals(attention, (1, 2)).maps[:, 0]
    half = 1 / (1 + e)
    expected = torch.tensor([[half, 1 - half], [0.5, 0.5], [1 - half, half]])
    torch.testing.assert_close(by_location, expected, atol=1e-5, rtol=0)
    by_token = token_proposals(attention, (1, 2), "locations").maps[:, 0]
    torch.testing.assert_close(by_token, expected, atol=1e-5, rtol=0)
    lop_sided = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.2, 0.3]])
    by_token = token_proposals(lop_sided, (1, 2), "locations").maps[:, 0]
    even = torch.tensor([[half, 1 - half], [0.5, 0.5], [0.5, 0.5]])
    torch.testing.assert_close(by_token, even, atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalise", ["tokens", "locations"])
def test_attention_that_is_all_alike(normalise):
    proposals = token_proposals(torch.full((6, 4), 0.02), (2, 3), normalise)
    torch.testing.assert_close(proposals.maps, torch.full((4, 2, 3), 1 / 6))
    assert len(merge(proposals, threshold=1e-6)) == 1
    [labels] = ArgmaxAssigner()([merge(proposals)], (2, 3))
    assert labels.unique().tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(["tokens", "locations"]))
def test_permuting_tokens_permutes_proposals(order, normalise):
    attention = torch.rand(12, 6, generator=torch.Generator().manual_seed(1)).double()
    plain = token_proposals(attention, (3, 4), normalise)
    permuted = token_proposals(attention[:, order], (3, 4), normalise)
    torch.testing.assert_close(permuted.maps, plain.maps[order])
    torch.testing.assert_close(permuted.scores, plain.scores[order])
    assert permuted.maps.dtype == torch.float64


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.floats(1e-3, 0.4))
def test_whatever_is_merged_is_a_distribution(tokens, height, width, threshold):
    generator = torch.Generator().manual_seed(tokens * 100 + height * 10 + width)
    attention = torch.rand(height * width, tokens, generator=generator) / tokens
    merged = merge(token_proposals(attention, (height, width)), threshold=threshold)
    assert 1 <= len(merged) <= tokens
    torch.testing.assert_close(merged.maps.sum((1, 2)), torch.ones(len(merged)))
    # Every token is in a group, and every group has its seed.
    [merging_round] = merged.rounds
    assert bool(merging_round.members.any(0).all())
    rows = torch.arange(merging_round.count)
    assert bool(merging_round.members[rows, merging_round.seeds].all())


def test_a_threshold_of_nothing_keeps_all_that_differ():
    proposals = token_proposals(torch.from_numpy(random_attention()), (6, 5))
    merged = merge(proposals, threshold=1e-9)
    torch.testing.assert_close(merged.maps, proposals.maps)


def test_earlier_rounds_are_kept_on_record():
    first = MergingRound(torch.eye(2).bool(), torch.arange(2), 0.3)
    proposals = Proposals(torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]]]), [first])
    assert [each.threshold for each in merge(proposals, threshold=0.1).rounds] == [0.3, 0.1]


@pytest.mark.parametrize("source", [None, SourceOutput([], features=[torch.ones(1, 2, 2, 3)])])
def test_a_source_without_proposals_is_told(source):
    aggregated = AggregatedAttention(torch.eye(6)[None], (2, 3), source)
    with pytest.raises(UsageError, match="yields none; ask it for some .--source.proposals clip"):
        SourceProposalsMerger()(aggregated)


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf"), "x"])
def test_a_threshold_that_is_none_is_told(threshold):
    with pytest.raises(ValueError, match="`threshold` to be a positive distance in nats, or None"):
        SourceProposalsMerger(threshold=threshold)


def test_attention_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"of shape \(6, T\) on a 2x3 grid, but got \(5, 4\)"):
        token_proposals(torch.rand(5, 4), (2, 3))
    with pytest.raises(ValueError, match=r"but got \(6, 0\)"):
        token_proposals(torch.rand(6, 0), (2, 3))
    with pytest.raises(ValueError, match="`normalise` to be one of"):
        token_proposals(torch.rand(6, 4), (2, 3), "rows")


# What the sources propose


def text_attention(pipelines, family, images, options):
    """``(B, N, T)``, the mean over heads and layers, in float64 of what the pipeline compares."""
    source = make_source(pipelines, family)
    reference = run_pipeline(pipelines[family], family, images, options)
    maps = [
        dense(query, key, family, reference.text)[1]
        for name, (query, key) in zip(source.layer_names, reference.compared, strict=True)
        if not name.endswith("attn2")
    ]
    return torch.stack(maps).mean(0)


@pytest.mark.parametrize("normalise", ["tokens", "locations"])
@pytest.mark.parametrize(
    ("family", "kind", "tokens"),
    [
        ("sd3", "clip", range(12)),
        ("sd35", "all", range(21)),
        ("sd3", "padding", range(2, 12)),  # all but the marks of the empty prompt
        ("dev", "all", range(9)),
        ("schnell", "padding", range(1, 9)),
    ],
)
def test_proposals_are_those_of_the_pipelines_attention(pipelines, family, kind, tokens, normalise):
    images = photos(2, 48, 80)
    source = make_source(pipelines, family, proposals=kind, normalise=normalise)
    output = source(images)
    attention = text_attention(pipelines, family, images, {"t5_length": 9})[..., list(tokens)]
    assert output.cross == ()
    assert len(output.prompts) == 2
    for proposals, own in zip(output.proposals, attention, strict=True):
        assert proposals.grid == (3, 5)
        torch.testing.assert_close(
            proposals.scores.double().flatten(1).mT, own, atol=1e-7, rtol=1e-4
        )
        expected = token_proposals(own, (3, 5), normalise)
        torch.testing.assert_close(proposals.maps.double(), expected.maps, atol=1e-6, rtol=1e-3)
    merged, _, _ = seg4diff(attention[0].numpy(), 1e-3, 1 if normalise == "tokens" else 0)
    found = merge(output.proposals[0], threshold=1e-3)
    np.testing.assert_allclose(found.maps.flatten(1), merged, rtol=2e-3)


def test_padding_is_what_each_prompt_leaves(pipelines):
    source = make_source(pipelines, "sd3", proposals="padding")
    output = source(photos(2, 32, 32), prompts=["ab c", ""])
    assert [len(each) for each in output.proposals] == [12 - 5, 12 - 2]
    both = make_source(pipelines, "sd3", t5=True, proposals="padding")
    # "ab c" is a beginning, a, b, a beginning, c and the end to T5; the empty prompt is its end.
    lengths = [len(each) for each in both(photos(2, 32, 32), prompts=["ab c", ""]).proposals]
    assert lengths == [12 - 5 + 9 - 6, 12 - 2 + 9 - 1]


def test_a_prompt_without_padding_is_told(pipelines):
    source = make_source(pipelines, "sd3", proposals="padding")
    with pytest.raises(UsageError, match="Expected every prompt to leave room for padding"):
        source(photos(2, 32, 32), prompts=["abcdefghij", ""])


def test_proposals_of_other_layers(pipelines):
    images = photos(1, 32, 48)
    one = make_source(pipelines, "sd3", layers=[0], cross=[2], proposals="clip")(images)
    other = make_source(pipelines, "sd3", layers=[2], proposals="clip")(images)
    torch.testing.assert_close(one.proposals[0].maps, other.proposals[0].maps)
    assert one.attention[0].name == other.attention[0].name
    assert not torch.allclose(one.attention[0].probs, other.attention[0].probs, atol=1e-4)
