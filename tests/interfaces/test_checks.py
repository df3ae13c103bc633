"""What travels between the parts is checked, unless that is switched off."""

import threading

import pytest
import torch

from diffsegkit import AggregatedAttention, AttentionMap, Proposals, SourceOutput, validation
from tests.synthetic import random_map, random_probs


def uniform(locations, batch=1):
    return torch.full((batch, locations, locations), 1 / locations)


def spoilt(value):
    probs = uniform(6)
    probs[0, 2, 3] = value
    return probs


BUILDERS = {
    "map": lambda probs: AttentionMap(probs, (2, 3), name="down.0"),
    "aggregate": lambda probs: AggregatedAttention(probs, (2, 3)),
    "proposals": lambda probs: Proposals(probs[0].reshape(-1, 2, 3)),
}


@pytest.mark.parametrize("builder", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "to be finite, but 1 of 6 rows"),
        (float("inf"), "to be finite"),
        (-0.1, "to be non-negative, but its minimum is -0.1"),
        (0.5, "to sum to 1 within 0.001, but one sum is off by 0.333"),
    ],
)
def test_rows_must_be_distributions(builder, value, message):
    with pytest.raises(ValueError, match=message):
        builder(spoilt(value))
    with validation(False):
        builder(spoilt(value))
    with pytest.raises(ValueError, match=message):
        builder(spoilt(value))


def test_the_message_names_the_layer():
    with pytest.raises(ValueError, match=r"the attention map 'down\.0'"):
        AttentionMap(spoilt(float("nan")), (2, 3), name="down.0")


@pytest.mark.parametrize("grid", [(3, 3), (6, 2), (2, 3, 1), (2.0, 3.0), (0, 6), [2, 3], 6])
def test_the_grid_must_agree(grid):
    with pytest.raises(ValueError, match="grid"):
        AttentionMap(uniform(6), grid)


def test_integers_and_empty_tensors_are_refused():
    with pytest.raises(ValueError, match=r"floating point, but got torch\.int64"):
        AttentionMap(torch.eye(4, dtype=torch.int64)[None], (2, 2))
    with pytest.raises(ValueError, match="not to be empty"):
        AttentionMap(torch.empty(0, 4, 4), (2, 2))
    with pytest.raises(ValueError, match="K at least 1"):
        Proposals(torch.empty(0, 2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        AttentionMap(uniform(4), (2, 2), count=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_passes(dtype, generator):
    AttentionMap(random_probs(2, 12, generator, dtype=dtype), (3, 4))


def test_the_switch_is_local_to_its_thread():
    outcome = []

    def build():
        try:
            BUILDERS["map"](spoilt(0.5))
        except ValueError:
            outcome.append("checked")

    with validation(False):
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
    assert outcome == ["checked"]


def test_a_source_gives_something_of_one_batch_size(generator):
    with pytest.raises(
        ValueError, match="attention maps, features, cross-attention or proposals, but got none"
    ):
        SourceOutput([])
    with pytest.raises(ValueError, match=r"one batch size, but got \[1, 2\]"):
        SourceOutput([random_map((2, 2), generator), random_map((3, 2), generator, batch=1)])
    with pytest.raises(ValueError, match="one batch size"):
        SourceOutput([random_map((2, 2), generator)], images=torch.rand(3, 3, 8, 8))


def test_rows_and_selection(generator):
    probs = random_probs(3, 6, generator)
    aggregated = AggregatedAttention(probs, (2, 3))
    each = torch.tensor([[0, 5], [1, 1], [4, 2]])
    torch.testing.assert_close(
        aggregated.rows(each), torch.stack([probs[b, each[b]] for b in range(3)])
    )
    torch.testing.assert_close(aggregated.rows(torch.tensor([3])), probs[:, 3:4])
    assert aggregated.rows(slice(None)).data_ptr() == probs.data_ptr()
    half = AggregatedAttention(probs.half(), (2, 3))
    assert half.rows(slice(0, 2)).dtype == torch.float32
    torch.testing.assert_close(aggregated.select(slice(1, 2)).probs, probs[1:2])


def test_selecting_images_selects_everything(generator):
    maps = random_map((2, 2), generator, batch=3)
    proposals = [Proposals(torch.full((1, 2, 2), 0.25)) for _ in range(3)]
    images = torch.rand(3, 3, 8, 8)
    output = SourceOutput(
        [maps], features=[torch.rand(3, 5, 2, 2)], cross=[torch.rand(3, 7, 2, 2)],
        proposals=proposals, images=images,
    )  # fmt: skip
    part = output.select(slice(1, 3))
    assert part.batch_size == 2
    assert part.proposals[0] is proposals[1]
    assert [len(part.features[0]), len(part.cross[0]), len(part.images)] == [2, 2, 2]
    torch.testing.assert_close(part.attention[0].probs, maps.probs[1:3])
