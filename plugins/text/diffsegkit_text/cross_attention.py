"""Names by cross-attention, as the original DiffSeg gives them."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Namer, SourceOutput
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import TokenisedPrompt
from diffsegkit_text.nouns import Tagger, nouns_of

Vote = Literal["mean", "majority"]
"""How the pixels of a segment agree on a noun."""

Weighting = Literal["equal", "resolution"]
"""What the cross-attention of each grid counts: the same, or in proportion to its longer side."""


class CrossAttentionNamer(Namer):
    """Each segment gets the noun of the prompt that its locations attend to most.

    As the original (google/diffseg: ``aggregate_x_weights`` and ``get_semantics`` in
    diffseg/segmentor.py, called in diffseg.ipynb): cross-attention of each resolution is upsampled
    bilinearly to the label map, and added with equal weights; the map of a noun is divided by its
    L2 norm over space, and the noun with the largest mean over a segment is its name. Where the
    original takes the token
    whose number is the noun's number among the words, here a noun's tokens are found by its
    characters, so words that are several tokens are named right; the maps of a noun's tokens are
    averaged, and those of its occurrences.

    The source must give cross-attention (``StableDiffusionSource(cross=True)``) and have a prompt:
    one for all images, one per image in :meth:`diffsegkit.Segmenter.forward`, or a caption of
    :class:`CaptionedSource`.

    Args:
        nouns: The candidates; every one must be in the prompt. None takes the prompt's nouns,
            but for those that are cut off because the prompt is too long.
        vote: ``"mean"``; or ``"majority"``, the noun that most pixels of the segment have for
            their largest. (The original's ``"majority"`` takes the median of the nouns' numbers.)
        tagger: How nouns are found if none are given, see :func:`nouns_of`.
        weighting: ``"equal"``, as the original's notebook calls it; or ``"resolution"``, what its
            function does by itself, as for self-attention: in proportion to the longer side of a
            grid.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: When called, if there is no cross-attention, or no noun in the prompt.
    """

    def __init__(
        self,
        nouns: Sequence[str] | None = None,
        vote: Vote = "mean",
        tagger: Tagger = "rule",
        weighting: Weighting = "equal",
    ) -> None:
        super().__init__()
        if nouns is not None and (isinstance(nouns, str) or not nouns or not all(nouns)):
            raise ValueError(
                f"Expected argument `nouns` to be a list of words, or None, but got {nouns!r}."
            )
        for name, value, choices in (
            ("vote", vote, Vote),
            ("tagger", tagger, Tagger),
            ("weighting", weighting, Weighting),
        ):
            if value not in get_args(choices):
                raise ValueError(
                    f"Expected argument `{name}` to be one of {get_args(choices)}, but got "
                    f"{value!r}."
                )
        self.nouns = None if nouns is None else tuple(nouns)
        self.vote: Vote = vote
        self.tagger: Tagger = tagger
        self.weighting: Weighting = weighting

    @torch.no_grad()
    def forward(self, labels: Tensor, *, aggregated: AggregatedAttention) -> list[list[str]]:
        """Name the segments of a batch of images.

        Args:
            labels: ``(B, H, W)`` int64, without gaps.
            aggregated: Its source has cross-attention and prompts.

        Returns:
            For each image the names of its segments.
        """
        output = aggregated.source
        if output is None or not output.cross or output.prompts is None:
            raise UsageError(
                "CrossAttentionNamer needs cross-attention, but the source gave none; use "
                "--source.cross true with StableDiffusionSource, and a prompt."
            )
        return [self._name(own, output, index) for index, own in enumerate(labels)]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"nouns={self.nouns}, vote={self.vote!r}, tagger={self.tagger!r}, "
            f"weighting={self.weighting!r}"
        )

    def _name(self, labels: Tensor, output: SourceOutput, index: int) -> list[str]:
        assert output.prompts is not None  # forward saw to it
        prompt = output.prompts[index]
        nouns = self._nouns(prompt)
        cross = [layer[index] for layer in output.cross]
        size = (labels.shape[0], labels.shape[1])
        # Noun by noun: of a large photo no more than two maps are held at a time.
        maps = (noun_map(cross, prompt, noun, size, self.weighting) for noun in nouns)
        flat, number = labels.flatten(), int(labels.max()) + 1
        if self.vote == "mean":
            scores = torch.stack([_means(own.flatten(), flat, number) for own in maps])
        else:
            winner = _largest(maps)
            chosen = ((winner == place).double().flatten() for place in range(len(nouns)))
            scores = torch.stack([_means(own, flat, number) for own in chosen])
        return [nouns[place] for place in scores.argmax(0).tolist()]

    def _nouns(self, prompt: TokenisedPrompt) -> tuple[str, ...]:
        if self.nouns is None:
            found = nouns_of(prompt.text, self.tagger)
            nouns = tuple(noun for noun in found if prompt.tokens_of(noun))
        else:
            nouns = self.nouns
        if not nouns:
            raise UsageError(
                f"CrossAttentionNamer found no noun in the prompt {prompt.text!r}; give a prompt "
                "with --source.prompt, name the nouns with --namer.nouns, or use CaptionedSource."
            )
        for noun in nouns:
            if not prompt.tokens_of(noun):
                raise UsageError(
                    f"Expected every noun to be in the prompt, as a whole word among the tokens "
                    f"that the model reads, but {noun!r} is not in {prompt.text!r}."
                )
        return nouns


def noun_map(
    cross: Sequence[Tensor],
    prompt: TokenisedPrompt,
    noun: str,
    size: tuple[int, int],
    weighting: Weighting = "equal",
) -> Tensor:
    """How much each pixel attends to a noun, divided by the L2 norm over the image.

    Args:
        cross: Of each grid ``(T, h, w)``.
        prompt: What the tokens stand for; it has the noun.
        noun: A word or phrase.
        size: ``(H, W)`` in pixels.
        weighting: What each grid counts, see :class:`CrossAttentionNamer`.

    Returns:
        ``(H, W)`` float64; zero where nothing attends to the noun at all.

    Example:
        >>> import torch
        >>> prompt = TokenisedPrompt("cat", ((0, 0), (0, 3)))
        >>> cross = torch.tensor([[[0.7, 0.6]], [[0.3, 0.4]]])
        >>> noun_map([cross], prompt, "cat", (1, 2))
        tensor([[0.6000, 0.8000]], dtype=torch.float64)
    """
    occurrences = prompt.tokens_of(noun)
    total = torch.zeros(size, dtype=torch.float64, device=cross[0].device)
    for layer in cross:
        wide = layer.double()
        own = torch.stack([wide[list(tokens)].mean(0) for tokens in occurrences]).mean(0)
        fine = functional.interpolate(own[None, None], size=size, mode="bilinear")[0, 0]
        # What the weights sum to does not matter: the map is divided by its norm.
        total += fine * (max(layer.shape[1:]) if weighting == "resolution" else 1)
    normalised: Tensor = total / total.norm().clamp_min(1e-30)
    return normalised


def _largest(maps: Iterable[Tensor]) -> Tensor:
    """Which of the maps is the largest at each pixel, the first of equal ones; int64."""
    best: Tensor | None = None
    winner: Tensor | None = None
    for place, own in enumerate(maps):
        if best is None or winner is None:
            best, winner = own, torch.zeros_like(own, dtype=torch.int64)
            continue
        winner = torch.where(own > best, place, winner)
        best = torch.maximum(own, best)
    assert winner is not None  # there is a noun
    return winner


def _means(values: Tensor, labels: Tensor, number: int) -> Tensor:
    """The mean of values over each segment; ``(number,)`` float64."""
    sums = torch.zeros(number, dtype=torch.float64, device=values.device)
    sums.index_add_(0, labels, values)
    return sums / torch.bincount(labels, minlength=number)
