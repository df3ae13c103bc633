"""From prompts to what a transformer reads of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.errors import WeightsError
from diffsegkit.interfaces import TokenisedPrompt


@dataclass(frozen=True)
class TextEncoder:
    """One of a model's text encoders.

    Args:
        tokenizer: ``CLIPTokenizer`` or ``T5TokenizerFast``.
        model: ``CLIPTextModel``, ``CLIPTextModelWithProjection`` or ``T5EncoderModel``.
    """

    tokenizer: Any
    model: Any


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer made of prompts.

    Args:
        ids: ``(B, T)`` int64.
        padding: ``(B, T)`` bool, where there is nothing of the prompt.
        spans: For each prompt, the characters that its tokens stand for; ``(0, 0)`` for special
            and padding tokens.
    """

    ids: Tensor
    padding: Tensor
    spans: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Condition:
    """What the transformer reads of the prompts.

    Args:
        embeddings: ``(B, T, D)``, one vector per token.
        pooled: ``(B, P)``, one per prompt.
        padding: ``(B, T)`` bool, which tokens pad.
        prompts: B prompts, with the characters that each of the T tokens stands for.
    """

    embeddings: Tensor
    pooled: Tensor
    padding: Tensor
    prompts: tuple[TokenisedPrompt, ...]


def tokenise(
    tokenizer: Any,  # noqa: ANN401
    texts: Sequence[str],
    length: int,
    *,
    tell: bool = True,
) -> Tokens:
    """Tokens of prompts, padded and truncated.

    Args:
        tokenizer: A fast one of transformers.
        texts: B prompts.
        length: How many tokens there are to be.
        tell: Whether what is cut off costs a warning.
    """
    encoded = tokenizer(
        list(texts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    padding = encoded["attention_mask"] == 0
    if tell:
        _tell_what_is_cut_off(tokenizer, texts, padding)
    spans = tuple(
        tuple(
            (0, 0) if unused else (int(start), int(end))
            for (start, end), unused in zip(offsets.tolist(), special.tolist(), strict=True)
        )
        for offsets, special in zip(
            encoded["offset_mapping"], encoded["special_tokens_mask"].bool() | padding, strict=True
        )
    )
    return Tokens(encoded["input_ids"], padding, spans)


def encode_clip_and_t5(
    texts: Sequence[str],
    clips: Sequence[TextEncoder],
    t5: TextEncoder | None,
    t5_length: int,
    width: int,
) -> Condition:
    """As Stable Diffusion 3 reads prompts (Esser et al., 2024, section 4).

    The last but one hidden states of two CLIPs side by side, filled up with zeros; then those of
    T5, or zeros without it, as in diffusers; the pooled projections of the CLIPs side by side.

    Args:
        texts: B prompts.
        clips: Two.
        t5: None for zeros.
        t5_length: How many tokens of T5 there are.
        width: D, which is T5's.

    Raises:
        WeightsError: If the encoders are not of this model.
    """
    # Both split alike; they differ in what they pad with.
    tokens = [
        tokenise(clip.tokenizer, texts, _clip_length(clip), tell=number == 0)
        for number, clip in enumerate(clips)
    ]
    outputs = [
        _run(clip, own.ids, output_hidden_states=True)
        for clip, own in zip(clips, tokens, strict=True)
    ]
    beside = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1).float()
    if beside.shape[-1] > width:
        raise WeightsError(
            f"Expected text encoders that together give at most {width} dimensions, which the "
            f"transformer reads, but they give {beside.shape[-1]}; the parts are of different "
            "models."
        )
    parts = [functional.pad(beside, (0, width - beside.shape[-1]))]
    padding, spans = [tokens[0].padding], list(tokens[0].spans)
    if t5 is None:
        parts.append(beside.new_zeros(len(texts), t5_length, width))
        padding.append(torch.zeros(len(texts), t5_length, dtype=torch.bool))
        more: Sequence[tuple[tuple[int, int], ...]] = (((0, 0),) * t5_length,) * len(texts)
    else:
        own = tokenise(t5.tokenizer, texts, t5_length)
        parts.append(_run_t5(t5, own.ids, width))
        padding.append(own.padding)
        more = own.spans
    return Condition(
        torch.cat(parts, dim=1),
        torch.cat([output.text_embeds for output in outputs], dim=-1).float(),
        torch.cat(padding, dim=1),
        tuple(
            TokenisedPrompt(text, first + second)
            for text, first, second in zip(texts, spans, more, strict=True)
        ),
    )


def encode_t5(
    texts: Sequence[str], clip: TextEncoder, t5: TextEncoder, t5_length: int, width: int
) -> Condition:
    """As FLUX.1 reads prompts: T5's hidden states, and the pooled output of CLIP.

    Args:
        texts: B prompts.
        clip: Gives one vector per prompt.
        t5: Gives one per token.
        t5_length: How many tokens there are.
        width: D, which the transformer reads.

    Raises:
        WeightsError: If T5 is not of this model.
    """
    own = tokenise(t5.tokenizer, texts, t5_length)
    # T5 reads on where CLIP has stopped, so only what is cut off of T5 is told.
    ids = tokenise(clip.tokenizer, texts, _clip_length(clip), tell=False).ids
    pooled = _run(clip, ids).pooler_output.float()
    return Condition(
        _run_t5(t5, own.ids, width),
        pooled,
        own.padding,
        tuple(TokenisedPrompt(text, spans) for text, spans in zip(texts, own.spans, strict=True)),
    )


def _clip_length(clip: TextEncoder) -> int:
    return int(clip.model.config.max_position_embeddings)


def _run(encoder: TextEncoder, ids: Tensor, **options: Any) -> Any:  # noqa: ANN401
    with torch.no_grad():
        return encoder.model(ids.to(encoder.model.device), **options)


def _run_t5(t5: TextEncoder, ids: Tensor, width: int) -> Tensor:
    """Without a mask, as both pipelines do: it attends to padding too."""
    states: Tensor = _run(t5, ids)[0].float()
    if states.shape[-1] != width:
        raise WeightsError(
            f"Expected a T5 that gives {width} dimensions, which the transformer reads, but this "
            f"one gives {states.shape[-1]}; the parts are of different models."
        )
    return states


def _tell_what_is_cut_off(
    tokenizer: Any,  # noqa: ANN401
    texts: Sequence[str],
    padding: Tensor,
) -> None:
    length = padding.shape[1]
    for text, own in zip(texts, padding, strict=True):
        # Whoever is padded is whole, and the empty prompt is not looked at twice.
        if bool(own.any()):
            continue
        whole = len(tokenizer(text)["input_ids"])
        if whole > length:
            warnings.warn(
                f"The prompt {text!r} has {whole} tokens; only the first {length} count.",
                stacklevel=2,
            )
