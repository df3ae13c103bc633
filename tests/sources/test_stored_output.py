"""What a source gave for one image, as bytes and back."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from diffsegkit import AttentionMap, MergingRound, Proposals, SourceOutput, validation
from diffsegkit.interfaces import TokenisedPrompt
from diffsegkit.interfaces.half import SCALE
from diffsegkit.sources.stored_output import from_bytes, join_images, take_image, to_bytes
from tests.synthetic import random_map

KEY = "ab" * 32


def there_and_back(output, images):
    """Through bytes, image by image."""
    stored = [
        from_bytes(to_bytes(take_image(output, index, image), KEY, {}), KEY)
        for index, image in enumerate(images)
    ]
    return join_images(stored, images)


def everything(generator, batch=2):
    """Every field filled; K, rounds and members differ from image to image."""

    def rand(*shape):
        return torch.rand(batch, *shape, generator=generator)

    def proposals(number):
        maps = torch.rand(number, 2, 3, generator=generator)
        members = torch.rand(number, 6, generator=generator) < 0.5
        seeds = torch.arange(number)
        rounds = [MergingRound(members, seeds, 0.1 * (n + 1)) for n in range(number)]
        return Proposals(maps / maps.sum((1, 2), keepdim=True), rounds, maps * 3)

    return SourceOutput(
        attention=[
            AttentionMap(random_map((4, 6), generator, batch).probs, (4, 6), "down.0", 5),
            AttentionMap(random_map((2, 3), generator, batch).probs, (2, 3), "mid ü", 1),
        ],
        features=[rand(7, 4, 6), rand(3, 2, 3).to(torch.bfloat16)],
        cross=[rand(77, 4, 6).half(), rand(77, 2, 3).double()],
        proposals=[proposals(index + 1) for index in range(batch)],
        images=rand(3, 20, 30),
        prompts=[TokenisedPrompt(f"ein Föhn {n}", ((0, 0), (0, 3), (4, 8))) for n in range(batch)],
    )


def test_every_field_comes_back(generator):
    images = torch.rand(2, 3, 16, 24, generator=generator)
    output = everything(generator)
    back = there_and_back(output, images)
    for one, other in zip(back.attention, output.attention, strict=True):
        assert (one.grid, one.name, one.count) == (other.grid, other.name, other.count)
        assert one.probs.dtype == torch.float32
        torch.testing.assert_close(one.probs, other.probs, rtol=2**-10, atol=0)
    for one, other in zip(
        [*back.features, *back.cross, back.images],
        [*output.features, *output.cross, output.images],
        strict=True,
    ):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert back.prompts == output.prompts
    for one, other in zip(back.proposals, output.proposals, strict=True):
        assert torch.equal(one.maps, other.maps)
        assert torch.equal(one.scores, other.scores)
        for mine, yours in zip(one.rounds, other.rounds, strict=True):
            assert torch.equal(mine.members, yours.members)
            assert torch.equal(mine.seeds, yours.seeds)
            assert mine.threshold == yours.threshold


def test_there_is_no_other_field():
    """A field that is new must be stored too, or its loss would go unnoticed."""
    names = {owner: [field.name for field in fields(owner)] for owner in (
        SourceOutput, AttentionMap, Proposals, MergingRound
    )}  # fmt: skip
    assert names == {
        SourceOutput: ["attention", "features", "cross", "proposals", "images", "prompts"],
        AttentionMap: ["probs", "grid", "name", "count"],
        Proposals: ["maps", "rounds", "scores"],
        MergingRound: ["members", "seeds", "threshold"],
    }


@pytest.mark.parametrize("field", ["attention", "features", "proposals"])
def test_one_kind_alone(field, generator):
    whole = everything(generator)
    images = torch.rand(2, 3, 16, 24, generator=generator)
    empty = {"attention": [], field: getattr(whole, field)}
    back = there_and_back(SourceOutput(**empty), images)
    assert len(getattr(back, field)) == len(getattr(whole, field))
    assert back.images is images


def test_images_are_stored_only_if_they_are_others(generator):
    images = torch.rand(2, 3, 16, 24, generator=generator)
    output = SourceOutput([random_map((2, 3), generator)])
    for own in (None, images, images.clone()):
        stored = take_image(replace(output, images=own), 0, images[0])
        assert "image" not in stored.tensors
        assert join_images([stored], images[:1]).images.data_ptr() == images.data_ptr()
    for own in (images.half(), images[..., :8], images / 2):
        back = there_and_back(replace(output, images=own), images)
        assert torch.equal(back.images, own)
    # A source that changes some images changes some of the batch.
    changed = torch.stack([images[0], images[1] / 2])
    assert torch.equal(there_and_back(replace(output, images=changed), images).images, changed)


rows = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.tuples(st.just(seed), st.integers(1, 24), st.floats(0, 12))
)


@settings(deadline=None, max_examples=60)
@given(rows)
def test_the_error_of_every_entry(row):
    """Rounding costs 2^-11 of an entry, a row's sum as much; below 2^-29 digits run out."""
    seed, locations, sharpness = row
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, locations, locations, generator=generator, dtype=torch.float64)
    probs = torch.softmax(logits * sharpness, -1)
    output = SourceOutput([AttentionMap(probs, (1, locations))])
    images = torch.zeros(1, 3, 1, locations)
    scaled = take_image(output, 0, images[0]).tensors["attention.0"]
    rounding = (scaled.double() / SCALE - probs[0]).abs()
    assert (rounding <= torch.maximum(probs[0] * 2**-11, torch.tensor(2.0**-40))).all()
    back = there_and_back(output, images).attention[0].probs.double()
    bound = torch.maximum(probs * 2**-10, torch.tensor(2.0**-39)) * 1.001 + probs * 2**-22
    assert ((back - probs).abs() <= bound).all()
    assert (back.sum(-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_attention_of_any_precision(dtype, generator):
    """Rows of half precision, which need not sum to 1 exactly, become float32 ones that do."""
    full = random_map((6, 6), generator, sharpness=3.0)
    output = SourceOutput([replace(full, probs=full.probs.to(dtype))])
    [back] = there_and_back(output, torch.rand(2, 3, 6, 6, generator=generator)).attention
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-3}[dtype]
    torch.testing.assert_close(back.probs, full.probs, rtol=tolerance, atol=1e-7)
    assert (back.probs.sum(-1) - 1).abs().max() < 1e-6


def test_the_extremes_fit():
    """An entry of 1, and a row of many equal ones."""
    one, many = torch.eye(9)[None], torch.full((1, 4096, 4096), 1 / 4096)
    output = SourceOutput([AttentionMap(one, (3, 3)), AttentionMap(many, (64, 64))])
    back = there_and_back(output, torch.zeros(1, 3, 1, 1))
    assert torch.equal(back.attention[0].probs, one)
    assert torch.equal(back.attention[1].probs, many)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0, 0.0])
def test_what_is_no_distribution_is_not_stored(value):
    """Without checks a source may give anything; a file must not hand it on later."""
    probs = torch.full((1, 4, 4), 0.25)
    probs[0, 2] = value
    with validation(False):
        output = SourceOutput([AttentionMap(probs, (2, 2), name="mid")])
    with pytest.raises(ValueError, match="'mid' to be a distribution.*cannot be stored"):
        take_image(output, 0, torch.zeros(3, 2, 2))


def test_images_of_different_forms_are_no_batch(generator):
    """Such as cross-attention to texts of different lengths."""
    images = torch.rand(2, 3, 4, 4, generator=generator)
    attention = random_map((2, 2), generator)
    outputs = [SourceOutput([attention], cross=[torch.rand(2, tokens, 2, 2)]) for tokens in (5, 9)]
    stored = [take_image(output, 0, images[0]) for output in outputs]
    with pytest.raises(ValueError, match=r"one form.*5, 2, 2.*9, 2, 2.*batches of one image"):
        join_images(stored, images)


@pytest.fixture
def data(generator):
    output = everything(generator)
    return to_bytes(take_image(output, 1, output.images[1]), KEY, {"source": "a test"})


def test_the_file_says_what_it_is(data):
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["diffsegkit"])
    assert about["key"] == KEY
    assert about["note"] == {"source": "a test"}
    assert load(data)["attention.0"].dtype == torch.float16


def test_cut_anywhere(data):
    header = 8 + int.from_bytes(data[:8], "little")
    ends = [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(data) // 2]
    for end in [*ends, len(data) - 1]:
        with pytest.raises(ValueError, match="it is no"):
            from_bytes(data[:end], KEY)
    with pytest.raises(ValueError, match="no whole safetensors"):
        from_bytes(data + b"\0", KEY)
    with pytest.raises(ValueError, match="it is"):
        from_bytes(bytes(len(data)), KEY)


def test_any_flipped_bit_is_noticed_or_means_nothing(data):
    """Everything that matters is under the checksum; JSON has some slack around it."""
    whole = from_bytes(data, KEY)
    generator = torch.Generator().manual_seed(1)
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(header), *torch.randint(header, len(data), (200,), generator=generator)]
    noticed = 0
    for place in map(int, places):
        bit = 1 << int(torch.randint(8, (1,), generator=generator))
        damaged = bytearray(data)
        damaged[place] ^= bit
        try:
            stored = from_bytes(bytes(damaged), KEY)
        except ValueError:
            noticed += 1
            continue
        assert place < header
        assert stored.layout == whole.layout
        assert all(torch.equal(own, whole.tensors[name]) for name, own in stored.tensors.items())
    assert noticed > 0.9 * len(places)


def _checksummed(data, change):
    """A file with a valid checksum whose tensors are not those of its layout."""
    from diffsegkit.sources import stored_output

    stored = from_bytes(data, KEY)
    tensors = dict(stored.tensors)
    change(tensors)
    return to_bytes(stored_output.StoredOutput(stored.layout, tensors), KEY, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.update({"attention.0": torch.ones(5, 5).half()}), "does not fit"),
        (lambda tensors: tensors.update({"attention.1": torch.ones(6, 6)}), "does not fit"),
        (lambda tensors: tensors.pop("attention.1"), "no attention of diffsegkit"),
        (lambda tensors: tensors.pop("cross.1"), "other tensors"),
        (lambda tensors: tensors.pop("members.1"), "other tensors"),
        (lambda tensors: tensors.pop("image"), "other tensors"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "other tensors"),
    ],
)
def test_tensors_that_the_header_does_not_name(data, change, message):
    output = from_bytes(data, KEY)
    assert not output.layout["image"]
    output.layout["image"] = True
    with_image = to_bytes(
        replace(output, tensors={**output.tensors, "image": torch.ones(3, 2, 2)}), KEY, {}
    )
    with pytest.raises(ValueError, match=message):
        from_bytes(_checksummed(with_image, change), KEY)


def test_files_of_somebody_else(data):
    foreign = [
        save({"weight": torch.ones(3)}),
        save({"weight": torch.ones(3)}, {"format": "pt"}),
        save({"attention.0": torch.ones(3)}, {"diffsegkit": "{}", "crc32": "00000000"}),
        b"PK\x03\x04 a pickle of torch.save",
    ]
    for each in foreign:
        with pytest.raises(ValueError, match="it is no|its checksum"):
            from_bytes(each, KEY)
    with pytest.raises(ValueError, match="it holds something else"):
        from_bytes(data, "cd" * 32)
