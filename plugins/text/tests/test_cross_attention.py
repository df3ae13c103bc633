"""Names by cross-attention against the original's formula in NumPy."""

import numpy as np
import pytest
import torch

from diffsegkit import AggregatedAttention, SourceOutput, list_components
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import TokenisedPrompt
from diffsegkit_text import CrossAttentionNamer

# begin, "a", "surf", "board", "and", "sky", end
PROMPT = TokenisedPrompt(
    "a surfboard and sky", ((0, 0), (0, 1), (2, 6), (6, 11), (12, 15), (16, 19), (0, 0))
)
# Of the three the last is no noun, but a word like another.
TOKENS = {"surfboard": [2, 3], "sky": [5], "and": [4]}


def aggregated(cross, prompts):
    output = SourceOutput([], cross=cross, prompts=prompts)
    return AggregatedAttention(torch.eye(4).expand(len(prompts), -1, -1), (2, 2), output)


def attention(generator, *grids, batch=1, tokens=7):
    return [torch.rand(batch, tokens, *grid, generator=generator).softmax(1) for grid in grids]


def original(cross, labels, tokens, vote, weighting):
    """aggregate_x_weights and get_semantics of google/diffseg, with bilinear upsampling by hand."""
    height, width = labels.shape
    ratios = np.array([max(layer.shape[1:]) for layer in cross], dtype=np.float64)
    # weight_ratio=[1.0, 1.0, 1.0, 1.0] in its notebook, get_weight_rato where none is given.
    ratios = ratios / ratios.sum() if weighting == "resolution" else np.ones(len(cross))
    total = np.zeros((height, width, cross[0].shape[0]))
    for layer, ratio in zip(cross, ratios, strict=True):
        maps = np.stack([upsample(own.double().numpy(), height, width) for own in layer], axis=-1)
        total += maps / maps.sum(-1, keepdims=True) * ratio
    columns = np.stack([total[..., own].mean(-1) for own in tokens], axis=-1).reshape(
        -1, len(tokens)
    )
    columns = columns / np.linalg.norm(columns, axis=0, keepdims=True)
    flat = labels.numpy().ravel()
    names = []
    for label in range(flat.max() + 1):
        rows = columns[flat == label]
        if vote == "mean":
            names.append(int(rows.mean(0).argmax()))
        else:
            names.append(int(np.bincount(rows.argmax(1), minlength=len(tokens)).argmax()))
    return names


def upsample(values, height, width):
    """Bilinear, half-pixel centres, clamped at the border."""

    def axis(size, length):
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, length - 1), at - low

    top, bottom, down = axis(height, values.shape[0])
    left, right, across = axis(width, values.shape[1])
    rows = values[top] * (1 - down)[:, None] + values[bottom] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across


@pytest.mark.parametrize("weighting", ["equal", "resolution"])
@pytest.mark.parametrize("vote", ["mean", "majority"])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_original_s_formula(vote, weighting, seed):
    generator = torch.Generator().manual_seed(seed)
    cross = attention(generator, (8, 12), (4, 6))
    labels = torch.randint(0, 6, (16, 24), generator=generator)
    expected = original(
        [layer[0] for layer in cross], labels, list(TOKENS.values()), vote, weighting
    )
    namer = CrossAttentionNamer(list(TOKENS), vote=vote, weighting=weighting)
    [names] = namer(labels[None], aggregated=aggregated(cross, [PROMPT]))
    assert names == [list(TOKENS)[place] for place in expected]


def test_worked_by_hand():
    """Left attends to "surf" and "board", right to "sky"; words are not numbered as tokens are."""
    cross = torch.full((1, 7, 1, 2), 0.05)
    cross[0, 2:4, 0, 0] = 0.4
    cross[0, 5, 0, 1] = 0.7
    labels = torch.tensor([[[0, 0, 1, 1]]])
    for namer in (CrossAttentionNamer(), CrossAttentionNamer(["sky", "surfboard"])):
        assert namer(labels, aggregated=aggregated([cross], [PROMPT])) == [["surfboard", "sky"]]
    # The original's number of the second noun, 3 + 1, would be the token of "and".
    assert cross[0, 4].unique().numel() == 1


def test_the_norm_over_space_makes_nouns_comparable():
    """A noun that gets little attention everywhere still wins where it gets its most."""
    cross = torch.zeros(1, 7, 1, 2)
    cross[0, 5] = torch.tensor([[0.6, 0.5]])
    cross[0, 2:4] = torch.tensor([[0.01, 0.04]])
    labels = torch.tensor([[[0, 1]]])
    assert CrossAttentionNamer()(labels, aggregated=aggregated([cross], [PROMPT])) == [["sky", "surfboard"]]  # fmt: skip


def test_grids_count_the_same_as_in_the_original_s_notebook():
    """The fine grid finds the sky on the left, the coarse one on the right, and more clearly."""
    fine, coarse = torch.zeros(1, 7, 1, 4), torch.zeros(1, 7, 1, 2)
    fine[0, 5], coarse[0, 5] = torch.tensor([0.4, 0.4, 0.2, 0.2]), torch.tensor([0.2, 0.5])
    for layer in (fine, coarse):
        layer[0, 2:4] = 0.6 - layer[0, 5]
    labels = torch.tensor([[[0, 0, 1, 1]]])
    # Left 1 * 0.4 + 1 * 0.2 against right 0.2 + 0.5; with weights of 4 and 2, 2.0 against 1.8.
    for weighting, names in (
        ("equal", ["surfboard", "sky"]),
        ("resolution", ["sky", "surfboard"]),
    ):
        namer = CrossAttentionNamer(weighting=weighting)
        assert namer(labels, aggregated=aggregated([fine, coarse], [PROMPT])) == [names]
    default = CrossAttentionNamer()(labels, aggregated=aggregated([fine, coarse], [PROMPT]))
    assert default == [["surfboard", "sky"]]


@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_one_segment_has_one_name(vote):
    """On two pixels of three the sky is largest, and in the mean of all the surfboard."""
    cross = torch.zeros(1, 7, 1, 3)
    cross[0, 5] = torch.tensor([[0.5, 0.5, 0.1]])
    cross[0, 2:4] = torch.tensor([[0.4, 0.4, 0.6]])
    labels = torch.zeros(1, 1, 3, dtype=torch.int64)
    [names] = CrossAttentionNamer(vote=vote)(labels, aggregated=aggregated([cross], [PROMPT]))
    # Norms: sky 0.714, surfboard 0.825; so 0.700 > 0.485 twice, 0.140 < 0.728 once.
    assert names == [{"mean": "surfboard", "majority": "sky"}[vote]]


def test_a_noun_that_is_cut_off_is_no_candidate_unless_it_was_asked_for(generator):
    prompt = TokenisedPrompt("a sky and a surfboard", ((0, 0), (0, 1), (2, 5), (0, 0)))
    cross = attention(generator, (2, 2), tokens=4)
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    assert CrossAttentionNamer()(labels, aggregated=aggregated(cross, [prompt])) == [["sky"]]
    with pytest.raises(UsageError, match="'surfboard' is not in"):
        CrossAttentionNamer(["surfboard"])(labels, aggregated=aggregated(cross, [prompt]))


def test_a_batch_is_a_loop_and_each_image_has_its_prompt(generator):
    other = TokenisedPrompt(
        "sky sky cat", ((0, 0), (0, 3), (4, 7), (8, 11), (0, 0), (0, 0), (0, 0))
    )
    cross = attention(generator, (4, 4), (2, 2), batch=2)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)
    both = aggregated(cross, [PROMPT, other])
    together = CrossAttentionNamer()(labels, aggregated=both)
    for index in range(2):
        part = slice(index, index + 1)
        assert CrossAttentionNamer()(labels[part], aggregated=both.select(part)) == [
            together[index]
        ]
    assert set(together[1]) <= {"sky", "cat"}


def test_the_order_of_the_nouns_does_not_matter(generator):
    cross = attention(generator, (4, 4))
    labels = torch.randint(0, 5, (1, 9, 7), generator=generator)
    one = CrossAttentionNamer(["sky", "surfboard"])(labels, aggregated=aggregated(cross, [PROMPT]))
    other = CrossAttentionNamer(["surfboard", "sky"])(
        labels, aggregated=aggregated(cross, [PROMPT])
    )
    assert one == other


def test_what_is_missing_is_told(generator):
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    cross = attention(generator, (2, 2))
    bare = AggregatedAttention(torch.eye(4)[None], (2, 2))
    with pytest.raises(UsageError, match="needs cross-attention, but .* --source.cross true"):
        CrossAttentionNamer()(labels, aggregated=bare)
    empty = TokenisedPrompt("", ((0, 0),) * 7)
    with pytest.raises(UsageError, match="found no noun in the prompt ''"):
        CrossAttentionNamer()(labels, aggregated=aggregated(cross, [empty]))
    with pytest.raises(UsageError, match="'cat' is not in 'a surfboard and sky'"):
        CrossAttentionNamer(["cat"])(labels, aggregated=aggregated(cross, [PROMPT]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nouns": "cat"}, "`nouns` to be a list of words, or None, but got 'cat'"),
        ({"nouns": []}, "`nouns` to be a list"),
        ({"vote": "median"}, "`vote` to be one of .* but got 'median'"),
        ({"tagger": "spacy"}, "`tagger` to be one of"),
        ({"weighting": "layer"}, "`weighting` to be one of"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        CrossAttentionNamer(**options)


def test_all_are_registered():
    assert {"CLIPNamer", "CrossAttentionNamer"} <= {*list_components("namers")}
    assert "CaptionedSource" in list_components("sources")
    assert {"named-sd14", "clip-affinity"} <= {*list_components("presets")}
