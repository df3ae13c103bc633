"""From prompts to what a UNet is conditioned on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from diffsegkit.interfaces import TokenisedPrompt


class Tokenizer(Protocol):
    """What turns texts to token ids."""

    def __call__(self, texts: list[str], length: int) -> Tensor:
        """``(B, length)`` int64, padded and truncated."""

    def spans(self, text: str, length: int) -> tuple[tuple[int, int], ...]:
        """The characters that each of ``length`` tokens stands for."""


@dataclass(frozen=True)
class Condition:
    """What the UNet reads of the prompts.

    Args:
        embeddings: ``(B, T, D)``, one vector per token.
        pooled: ``(B, P)``, of SDXL's second encoder; None for SD 1.x and 2.x.
    """

    embeddings: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class TextEncoder:
    """One of a model's text encoders.

    Args:
        tokenizer: Its tokenizer.
        model: ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
    """

    tokenizer: Tokenizer
    model: Any


class HubTokenizer:
    """A tokenizer of transformers.

    Args:
        tokenizer: ``CLIPTokenizer``.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str], length: int) -> Tensor:
        """``(B, length)`` int64; what is cut off costs a warning.

        Args:
            texts: The prompts.
            length: How many tokens the encoder takes.
        """
        for text, whole in zip(texts, self._tokenizer(texts)["input_ids"], strict=True):
            if len(whole) > length:
                warnings.warn(
                    f"The prompt {text!r} has {len(whole)} tokens; only the first {length} count.",
                    stacklevel=2,
                )
        padded = self._tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = padded["input_ids"]
        return ids

    def spans(self, text: str, length: int) -> tuple[tuple[int, int], ...]:
        """The characters that each token stands for; ``(0, 0)`` for special and padding tokens.

        Args:
            text: A prompt.
            length: How many tokens the encoder takes.
        """
        encoded = self._tokenizer(
            text,
            padding="max_length",
            max_length=length,
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        pairs = zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        return tuple((0, 0) if special else (int(a), int(b)) for (a, b), special in pairs)


def tokenise(texts: Sequence[str], encoders: Sequence[TextEncoder]) -> list[TokenisedPrompt]:
    """Which characters of the prompts the tokens stand for.

    Args:
        texts: B prompts.
        encoders: One, or SDXL's two, whose tokenizers split alike.
    """
    encoder = encoders[0]
    length = encoder.model.config.max_position_embeddings
    return [TokenisedPrompt(text, encoder.tokenizer.spans(text, length)) for text in texts]


def encode(texts: Sequence[str], encoders: Sequence[TextEncoder]) -> Condition:
    """Encode prompts.

    SD 1.x and 2.x take the last hidden states of their one encoder. SDXL takes the last but one
    of two encoders side by side, and the pooled projection of the second.

    Args:
        texts: B prompts.
        encoders: One, or SDXL's two.
    """
    outputs = []
    for encoder in encoders:
        model = encoder.model
        ids = encoder.tokenizer(list(texts), model.config.max_position_embeddings)
        with torch.no_grad():
            outputs.append(model(ids.to(model.device), output_hidden_states=len(encoders) > 1))
    if len(outputs) == 1:
        return Condition(outputs[0].last_hidden_state, None)
    embeddings = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return Condition(embeddings, outputs[-1].text_embeds)
