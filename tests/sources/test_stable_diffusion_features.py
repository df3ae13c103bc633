"""Feature maps and cross-attention of Stable Diffusion against an untouched UNet."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from diffsegkit import SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import TokenisedPrompt
from diffsegkit.sources import CachedSource, StableDiffusionSource
from diffsegkit.sources.stable_diffusion.text import HubTokenizer
from tests.sources.pipelines import FAMILIES, make_pipeline
from tests.sources.test_stable_diffusion import outputs_of_all_modules, photos


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    return {family: make_pipeline(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def untouched(source, images, prompts=None):
    """Every module's output while the UNet runs by itself, the latents being the source's."""
    latents = source._latents(images)
    condition = source._condition(prompts, len(images), tuple(images.shape[2:]))

    def call():
        with torch.no_grad():
            source.unet(latents, source.timestep, **condition)

    seen = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: seen.append((name, kept(output)))
        )
        for name, module in source.unet.named_modules()
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return dict(seen)


def kept(output):
    """As it is now, whatever is done to it afterwards."""
    return first(output).clone()


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("size", [(64, 128), (72, 104)])
@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_what_the_modules_give(pipelines, family, size):
    names = ["down_blocks.1", "down_blocks.1.attentions.0", "mid_block", "up_blocks.1.resnets.0"]
    source = StableDiffusionSource(str(pipelines[family]), features=names)
    images = photos(2, *size)
    expected = untouched(source, images)
    output = source(images)
    order = [name for name in expected if name in names]
    assert len(output.features) == len(names)
    assert len(output.attention) > 0
    for found, name in zip(output.features, order, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[name])
    plain = StableDiffusionSource(str(pipelines[family]))(images)
    for one, other in zip(output.attention, plain.attention, strict=True):
        torch.testing.assert_close(one.probs, other.probs)


@pytest.mark.parametrize("family", FAMILIES)
def test_lists_of_locations_become_maps(pipelines, family):
    """DiffCut's features: the output of the self-attention layers of one block."""
    source = StableDiffusionSource(
        str(pipelines[family]), layers=[], features=["down_blocks.2.*.attn1"]
    )
    images = photos(2, 64, 128)
    expected = untouched(source, images)
    names = [name for name in expected if re.fullmatch(r"down_blocks\.2\..*\.attn1", name)]
    output = source(images)
    assert output.attention == []
    assert len(output.features) == len(names) > 0
    for found, name in zip(output.features, names, strict=True):
        height, width = found.shape[2:]
        assert width == 2 * height
        for index in range(2):
            rows = expected[name][index].reshape(height, width, -1)
            torch.testing.assert_close(found[index], rows.permute(2, 0, 1))


def test_the_unet_stops_after_the_last_feature(pipelines):
    source = StableDiffusionSource(str(pipelines["ssd1b"]), layers=[], features=["down_blocks.1"])
    _, outputs = outputs_of_all_modules(source.unet, lambda: source(photos(1, 64, 64)))
    run = {name for name, _ in outputs}
    assert "down_blocks.1" in run
    assert not any(name.startswith(("down_blocks.2", "mid_block", "up_blocks")) for name in run)


def test_attention_and_output_of_one_layer(pipelines):
    """DiffCut's features beside the attention of the same layers: two things under one name."""
    layer = "down_blocks.2.attentions.1.transformer_blocks.0.attn1"
    source = StableDiffusionSource(str(pipelines["ssd1b"]), layers=[layer], features=[layer])
    images = photos(2, 64, 128)
    expected = untouched(source, images)[layer]
    output, outputs = outputs_of_all_modules(source.unet, lambda: source(images))
    assert [attention.grid for attention in output.attention] == [(2, 4)]
    [found] = output.features
    torch.testing.assert_close(found.flatten(2).mT, expected)
    run = {name for name, _ in outputs}
    assert layer in run
    assert not any(name.startswith(("mid_block", "up_blocks")) for name in run)
    with torch.no_grad():
        source.unet.get_submodule(layer).to_q.weight.fill_(float("inf"))
    with pytest.raises(ValueError, match=f"The attention of '{re.escape(layer)}' is not finite"):
        source(images)


def test_features_are_not_changed_by_what_comes_after(pipelines):
    """FreeU scales half of the channels of what the way up is given, in place."""
    names = ["mid_block", "up_blocks.1"]
    source = StableDiffusionSource(str(pipelines["sdxl"]), features=names)
    images = photos(1, 64, 128)
    plain = source(images).features[0]
    source.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4)
    expected = untouched(source, images)
    for found, name in zip(source(images).features, names, strict=True):
        torch.testing.assert_close(found, expected[name])
    torch.testing.assert_close(expected["mid_block"], plain)  # FreeU acts behind it


def test_features_do_not_depend_on_the_batch(pipelines):
    options = {"features": ["down_blocks.1", "mid_block"], "cross": True}
    source = StableDiffusionSource(str(pipelines["sd1"]), **options)
    images, prompts = photos(3, 64, 128), ["a cat", "dogs", "sky and sea"]
    together = source(images, prompts=prompts)
    for index in range(3):
        alone = source(images[index : index + 1], prompts=prompts[index : index + 1])
        chosen = together.select(slice(index, index + 1))
        for one, other in zip(
            [*alone.features, *alone.cross], [*chosen.features, *chosen.cross], strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        assert alone.prompts == chosen.prompts


def test_threads_that_share_a_source_do_not_mix(pipelines):
    options = {"layers": [], "features": ["down_blocks.1"], "cross": ["down_blocks"]}
    source = StableDiffusionSource(str(pipelines["sd1"]), **options)
    own = dict(source.unet.attn_processors)
    images = [photos(1, 64, 64, seed) for seed in range(4)]
    alone = [source(image) for image in images]
    assert (alone[0].features[0] - alone[1].features[0]).abs().max() > 1e-3
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(source, images * 3))
    for index, output in enumerate(together):
        expected = alone[index % 4]
        for one, other in zip(
            [*output.features, *output.cross], [*expected.features, *expected.cross], strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert source.unet.attn_processors == own
    assert not any(module._forward_hooks for module in source.unet.modules())


def hooked_cross(unet, call):
    """Every cross-attention layer's map in float64, (B, h*w, T)."""
    seen, handles = {}, []
    for name, module in unet.named_modules():
        if re.search(r"attn2\.to_[qk]$", name):
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output)))  # fmt: skip
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    maps = {}
    for name in (key.removesuffix(".to_q") for key in seen if key.endswith("to_q")):
        heads = unet.get_submodule(name).heads
        q, k = (seen[f"{name}.to_{which}"].double().unflatten(-1, (heads, -1)) for which in "qk")
        logits = torch.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
        maps[name] = logits.softmax(-1).mean(1)
    return maps


@pytest.mark.parametrize("family", FAMILIES)
def test_cross_attention_is_the_softmax_over_tokens(pipelines, family):
    source = StableDiffusionSource(str(pipelines[family]), cross=True, average=False)
    images, prompts = photos(2, 64, 128), ["a cat", "dogs and sky"]
    latents, condition = source._latents(images), source._condition(prompts, 2, (64, 128))
    with torch.no_grad():
        expected = hooked_cross(
            source.unet, lambda: source.unet(latents, source.timestep, **condition)
        )
    output = source(images, prompts=prompts)
    assert len(output.cross) == len(expected)
    for one, (name, maps) in zip(output.cross, expected.items(), strict=True):
        height, width = one.shape[2:]
        assert width == 2 * height, name
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double().flatten(2).mT, maps, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(one.sum(1), torch.ones(2, height, width))
    assert (output.cross[0][0] - output.cross[0][1]).abs().max() > 1e-4
    # Layers of a grid are averaged as they come.
    averaged = StableDiffusionSource(str(pipelines[family]), cross=True)(images, prompts=prompts)
    grids = [tuple(own.shape[2:]) for own in averaged.cross]
    assert len(set(grids)) == len(grids)
    for grid, own in zip(grids, averaged.cross, strict=True):
        members = [each for each in output.cross if tuple(each.shape[2:]) == grid]
        torch.testing.assert_close(own, torch.stack(members).mean(0), atol=1e-6, rtol=1e-4)


def test_layers_of_cross_attention_by_resolution(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), layers=[], cross=[4, "mid"])
    output = source(photos(1, 64, 64))
    assert [tuple(own.shape) for own in output.cross] == [(1, 12, 4, 4), (1, 12, 1, 1)]
    assert output.attention == []


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_unet_changes_with_everything_captured(pipelines, family):
    from diffsegkit.sources.stable_diffusion.capture import Recorder, capturing
    from diffsegkit.sources.stable_diffusion.layers import layer_grids

    source = StableDiffusionSource(str(pipelines[family]))
    latent = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    condition = source._condition(None, 2, (64, 128))
    grids = layer_grids(source._spans, (8, 16))
    cross = layer_grids(source._cross_spans, (8, 16))

    class Unending(Recorder):
        is_complete = False

    recorder = Unending(grids, True, cross, {"mid_block": None})
    with torch.no_grad():
        plain = source.unet(latent, 300, **condition)[0]
        with capturing(source.unet, recorder, [*grids, *cross], ["mid_block"]):
            captured = source.unet(latent, 300, **condition)[0]
    assert torch.equal(plain, captured)
    assert len(recorder.features()) == 1
    assert not source.unet.mid_block._forward_hooks


def test_prompts_say_which_tokens_are_which_words(pipelines):
    """The tokenizer of the tests has one token per letter; 12 of them, the marks included."""
    source = StableDiffusionSource(str(pipelines["sd1"]), cross=True, prompt="A Cat  on")
    output = source(photos(2, 64, 64))
    [one, other] = output.prompts
    assert one == other
    assert one.text == "A Cat  on"
    assert len(one.spans) == output.cross[0].shape[1] == 12
    assert one.spans[:8] == ((0, 0), (0, 1), (2, 3), (3, 4), (4, 5), (7, 8), (8, 9), (0, 0))
    assert set(one.spans[7:]) == {(0, 0)}
    assert one.tokens_of("cat") == ((2, 3, 4),)
    assert one.tokens_of("cat on") == ((2, 3, 4, 5, 6),)
    [first_prompt, second_prompt] = source(photos(2, 64, 64), prompts=["ab", "c ab ab"]).prompts
    assert first_prompt.tokens_of("ab") == ((1, 2),)
    assert second_prompt.tokens_of("ab") == ((2, 3), (4, 5))
    with pytest.warns(UserWarning, match="only the first 12 count"):
        [cut] = source(photos(1, 64, 64), prompts=["abcdefghijk lmn"]).prompts
    assert cut.tokens_of("abcdefghijk") == (tuple(range(1, 11)),)
    assert cut.tokens_of("lmn") == ()


@pytest.mark.parametrize(
    ("phrase", "tokens"),
    [
        ("cat", ((1,),)),
        ("CAT", ((1,),)),
        ("surfboard", ((3, 4),)),
        ("surf", ()),
        ("cat's surfboard", ((1, 2, 3, 4),)),
        ("board", ()),
        ("", ()),
        ("hot  dog", ((5, 6), (7, 8))),
    ],
)
def test_whole_words_are_found(phrase, tokens):
    text = "Cat's surfboard, hot dog; hot\ndog."
    spans = ((0, 0), (0, 3), (3, 5), (6, 10), (10, 15), (17, 20), (21, 24), (26, 29), (30, 33), (0, 0))  # fmt: skip
    assert TokenisedPrompt(text, spans).tokens_of(phrase) == tokens


def test_spans_are_of_the_text_as_it_was_given(pipelines):
    """Whatever the tokenizer makes of capitals and white space."""
    tokenizer = CLIPTokenizer.from_pretrained(pipelines["sd1"] / "tokenizer")
    text = "  Hi\tTHE re "
    spans = HubTokenizer(tokenizer).spans(text, 12)
    assert "".join(text[start:end] for start, end in spans) == "HiTHEre"
    ids = HubTokenizer(tokenizer)([text], 12)[0]
    assert [span == (0, 0) for span in spans] == [int(each) >= 52 for each in ids]


@pytest.fixture(scope="module")
def byte_level():
    """CLIP's tokenizer, bytes and pairs of them, with few pairs."""
    letters = list(bytes_to_unicode().values())
    words = ("s u r f", "b o a r d</w>", "d o g</w>", "c a t</w>", "' s</w>")
    merges, vocabulary = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in words:
        symbols = word.split()
        while len(symbols) > 1:
            pair = (symbols[0], symbols[1])
            symbols = ["".join(pair), *symbols[2:]]
            if pair not in merges:
                merges.append(pair)
                vocabulary.append(symbols[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate(vocabulary)}
    return HubTokenizer(CLIPTokenizer(vocab=ids, merges=merges, model_max_length=20))


@pytest.mark.parametrize(
    ("text", "pieces", "phrase", "tokens"),
    [
        ("A SurfBoard", ["A", "Surf", "Board"], "surfboard", ((2, 3),)),
        ("dog,  DOG.", ["dog", ",", "DOG", "."], "dog", ((1,), (3,))),
        ("cat's dog!", ["cat", "'s", "dog", "!"], "dog", ((3,),)),
        ("\n cat\t\tdog ", ["cat", "dog"], "cat dog", ((1, 2),)),
        ("cat-dog", ["cat", "-", "dog"], "dog", ((3,),)),
        # An emoji is four bytes, a Chinese character three, an umlaut two, each a token.
        ("\N{DOG} dog", ["\N{DOG}"] * 4 + ["dog"], "dog", ((5,),)),
        ("\u72d7 dog", ["\u72d7"] * 3 + ["dog"], "\u72d7", ((1, 2, 3),)),
        ("\xd6l dog", ["\xd6", "\xd6", "l", "dog"], "\xf6l", ((1, 2, 3),)),
        # In lower case it is one letter more, and what follows must not be shifted.
        ("\u0130l dog", ["\u0130"] * 3 + ["l", "dog"], "dog", ((5,),)),
        # An accent that is a character of its own; the tokenizer composes it with its letter.
        ("cat\xe9 dog", ["ca", "t", "\xe9", "\xe9", "dog"], "cate\u0301", ((1, 2, 3, 4),)),
        ("cate\u0301 dog", ["ca", "t", "e", "e", "dog"], "cat\xe9", ((1, 2, 3, 4),)),
        ("cate\u0301 dog", ["ca", "t", "e", "e", "dog"], "cate", ()),
        ("cate\u0301 dog", ["ca", "t", "e", "e", "dog"], "dog", ((5,),)),
        # Eighteen tokens are left beside the marks.
        ("x" * 18 + " dog", ["x"] * 18, "dog", ()),
        ("x" * 17 + " surfboard", ["x"] * 17 + ["surf"], "surfboard", ((18,),)),
        ("", [], "dog", ()),
    ],
)
def test_spans_of_subwords_punctuation_and_unicode(byte_level, text, pieces, phrase, tokens):
    spans = byte_level.spans(text, 20)
    assert len(spans) == 20
    assert spans[0] == (0, 0)
    wanted = spans[1 : len(pieces) + 1]
    assert [text[start:end] for start, end in wanted] == pieces
    assert set(spans[len(pieces) + 1 :]) == {(0, 0)}
    assert TokenisedPrompt(text, spans).tokens_of(phrase) == tokens


def test_features_cross_attention_and_prompts_are_cached(pipelines, tmp_path):
    options = {"features": ["down_blocks.1"], "cross": True}
    source = StableDiffusionSource(str(pipelines["sd1"]), **options)
    cached = CachedSource(source, str(tmp_path))
    images, prompts = photos(2, 64, 64), ["a cat", "dog"]
    plain = source(images, prompts=prompts)
    for _ in range(2):
        output = cached(images, prompts=prompts)
        for one, other in zip(
            [*output.features, *output.cross], [*plain.features, *plain.cross], strict=True
        ):
            torch.testing.assert_close(one, other)
        assert output.prompts == plain.prompts
    assert output.select(slice(1, 2)).prompts == [plain.prompts[1]]
    prints = {StableDiffusionSource(str(pipelines["sd1"]), **each).fingerprint() for each in ({}, options, {"cross": True}, {"cross": ["mid"]}, {"features": ["mid_block"]})}  # fmt: skip
    assert len(prints) == 5


def test_an_overflow_names_the_module(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), layers=[], features=["down_blocks.1"])
    with torch.no_grad():
        source.unet.down_blocks[1].downsamplers[0].conv.weight.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"The output of 'down_blocks\.1' is not finite"):
        source(photos(1, 64, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["down_blocks.9"]}, r"'down_blocks\.9' selects none; its blocks are down_blocks\.0"),
        ({"features": "mid_block"}, "`features` to be a list of names of modules"),
        ({"cross": ["nope"]}, "argument `cross` to hold name patterns .* 'nope' selects none"),
        ({"cross": "mid"}, "`cross` to be true, false, or a list"),
        ({"cross": []}, "`cross` to be true, false, or a list"),
        ({"layers": []}, "`layers` to be a list"),
    ],
)  # fmt: skip
def test_wrong_options(pipelines, options, message):
    with pytest.raises(ValueError, match=message):
        StableDiffusionSource(str(pipelines["sd1"]), **options)


def test_a_module_that_gives_no_map_is_told(pipelines):
    source = StableDiffusionSource(str(pipelines["sd1"]), features=["time_embedding"])
    with pytest.raises(
        ValueError, match=r"'time_embedding' to be a feature map, but got \(2, 32\)"
    ):
        source(photos(2, 64, 64))


def test_aggregation_without_attention_says_so():
    output = SourceOutput([], features=[torch.ones(1, 2, 3, 4)])
    with pytest.raises(UsageError, match=r"the source gave none; .*--source\.layers null"):
        ResolutionAggregator()(output)
