"""Powers of attention against float64 and against sampled walks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsegkit import AttentionMap, SourceOutput, list_components
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.errors import UsageError
from diffsegkit_walk import MarkovAggregator, walk


def chain(number, generator, batch=None):
    shape = (number, number) if batch is None else (batch, number, number)
    values = torch.rand(shape, generator=generator).pow(4) + 1e-3
    return values / values.sum(-1, keepdim=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 10**6))
def test_steps_are_powers(number, steps, seed):
    transitions = chain(number, torch.Generator().manual_seed(seed))
    expected = np.linalg.matrix_power(transitions.double().numpy(), steps)
    np.testing.assert_allclose(walk(transitions, steps), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("restart", [0.1, 0.5, 0.9])
def test_restart_is_the_sum_over_all_lengths(restart, generator):
    """r sum_k (1 - r)^k P^k, and its first terms with what is left on the last power."""
    transitions = chain(7, generator).double()
    powers = [torch.linalg.matrix_power(transitions, k) for k in range(400)]
    weights = [restart * (1 - restart) ** k for k in range(400)]
    total = sum(weight * power for weight, power in zip(weights, powers, strict=True))
    torch.testing.assert_close(walk(transitions, None, restart), total)
    for steps in (1, 2, 5):
        partial = sum(w * p for w, p in zip(weights[:steps], powers[:steps], strict=True))
        partial = partial + (1 - restart) ** steps * powers[steps]
        torch.testing.assert_close(walk(transitions, steps, restart), partial)


def test_it_is_where_walks_end(generator):
    transitions = chain(5, generator)
    at = torch.zeros(20000, dtype=torch.int64)
    for _ in range(3):
        at = torch.multinomial(transitions[at], 1, generator=generator)[:, 0]
    shares = torch.bincount(at, minlength=5) / 20000
    assert (shares - walk(transitions, 3)[0]).abs().max() < 0.02


def test_parts_that_are_not_linked_stay_apart(generator):
    transitions = torch.block_diag(chain(4, generator), chain(3, generator), torch.ones(1, 1))
    for result in (walk(transitions, 8), walk(transitions, None, 0.1)):
        torch.testing.assert_close(result.sum(1), torch.ones(8))
        assert torch.equal(result > 0, transitions > 0)


def test_permuting_locations_permutes_rows_and_columns(generator):
    transitions = chain(9, generator)
    order = torch.randperm(9, generator=generator)
    for steps, restart in ((3, 0.0), (3, 0.2), (None, 0.2)):
        permuted = walk(transitions[order][:, order], steps, restart)
        torch.testing.assert_close(permuted, walk(transitions, steps, restart)[order][:, order])


def test_the_input_is_left_as_it_was(generator):
    transitions = chain(6, generator)
    before = transitions.clone()
    for steps, restart in ((1, 0.0), (2, 0.0), (2, 0.3), (None, 0.3)):
        walk(transitions, steps, restart)
    assert torch.equal(transitions, before)


def output_of(*grids, batch=2, generator):
    maps = [AttentionMap(chain(h * w, generator, batch), (h, w)) for h, w in grids]
    return SourceOutput(maps, images=torch.rand(batch, 3, 8, 12, generator=generator))


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"steps": None, "restart": 0.2}])
def test_the_aggregator_walks_on_what_another_aggregates(options, generator):
    output = output_of((4, 6), (2, 3), generator=generator)
    plain = ResolutionAggregator()(output)
    found = MarkovAggregator(**options)(output)
    assert found.grid == (4, 6)
    assert found.source is output
    steps, restart = options.get("steps", 2), options.get("restart", 0.0)
    for own, rows in zip(plain.probs, found.probs, strict=True):
        torch.testing.assert_close(rows, walk(own, steps, restart))
    for index in range(2):
        alone = MarkovAggregator(**options)(output.select(slice(index, index + 1)))
        torch.testing.assert_close(alone.probs[0], found.probs[index])


def test_one_step_is_the_aggregate_itself(generator):
    output = output_of((3, 4), generator=generator)
    assert torch.equal(
        MarkovAggregator(steps=1)(output).probs, ResolutionAggregator()(output).probs
    )


@pytest.mark.parametrize("storage", ["float16", "recomputed"])
def test_aggregates_that_are_held_otherwise(storage, generator):
    output = output_of((4, 4), (2, 2), generator=generator)
    found = MarkovAggregator(aggregator=ResolutionAggregator(storage=storage))(output)
    torch.testing.assert_close(found.probs, MarkovAggregator()(output).probs, atol=1e-5, rtol=2e-3)


def test_too_many_locations_are_told(generator, monkeypatch):
    from diffsegkit_walk import markov

    monkeypatch.setattr(markov, "_MOST_LOCATIONS", 10)
    with pytest.raises(UsageError, match="keeps all 12 x 12 entries of a 3x4 grid .* takes 10"):
        MarkovAggregator()(output_of((3, 4), generator=generator))


def test_one_location():
    output = SourceOutput([AttentionMap(torch.ones(1, 1, 1), (1, 1))])
    assert MarkovAggregator(steps=None, restart=0.5)(output).probs.tolist() == [[[1.0]]]


def test_it_is_registered():
    assert "MarkovAggregator" in list_components("aggregators")
    assert "TokenRankAnchors" in list_components("anchors")
    assert "AutomaticKLMerger" in list_components("mergers")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps` to be a whole number, at least 1, or None, but got 0"),
        ({"steps": 1.5}, "`steps` to be a whole number"),
        ({"restart": 1.0}, "`restart` from 0 up to, but not, 1, but got 1.0"),
        ({"steps": None}, "`restart` above 0 for a walk without end"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MarkovAggregator(**options)
