"""Attention taken from a transformer while it runs, image and text apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import Tensor, nn

from diffsegkit import AttentionMap
from diffsegkit.interfaces import Grid
from diffsegkit.kernels import mean_attention

# Rows of attention to image and text together that exist at a time: 64 MiB.
_ENTRIES_AT_ONCE = 2**24


class EnoughError(Exception):
    """Every wanted layer has run; what the transformer would still compute is not needed."""


@dataclass(frozen=True)
class Projections:
    """What a layer compares: queries of the image, keys of the image and of the text.

    Args:
        queries: ``(B, H, N, d)``.
        keys: ``(B, H, N, d)``.
        text_keys: ``(B, H, T, d)``; None in a layer that does not see the text.
    """

    queries: Tensor
    keys: Tensor
    text_keys: Tensor | None


Project = Callable[[nn.Module, Tensor, "Tensor | None", Any], Projections]
"""From an attention layer and what it is called with to what it compares."""


class Recorder:
    r"""Takes what is wanted of a transformer while it runs.

    Of attention *between locations* every head counts alike: a head's rows are divided by what
    they have of the image before the heads are averaged, which is a softmax over the image's keys
    alone,

    .. math:: \frac{e^{s_j}}{\sum_{i \in \text{all}} e^{s_i}} \Big/
        \frac{\sum_{i \in \text{image}} e^{s_i}}{\sum_{i \in \text{all}} e^{s_i}}
        = \frac{e^{s_j}}{\sum_{i \in \text{image}} e^{s_i}}

    so that the text's keys need not be looked at. Attention *to the text* is the softmax over all
    keys, averaged over heads, of which the text's part is kept.

    Args:
        grid: ``(h, w)``, the image's tokens.
        layers: Of which layers attention between locations is wanted.
        text_layers: Of which attention to the text is wanted.
        average: Whether the layers become one map, or each gives its own.
    """

    def __init__(
        self,
        grid: Grid,
        layers: Sequence[str],
        text_layers: Sequence[str] = (),
        average: bool = True,
    ) -> None:
        self._grid = grid
        self._average = average
        self._name_of = {layer: f"{grid[0]}x{grid[1]}" if average else layer for layer in layers}
        self._text_layers = list(text_layers)
        self._maps: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}
        self._finite: dict[str, Tensor] = {}

    @property
    def layers(self) -> list[str]:
        """Every layer that something is wanted of."""
        return list(dict.fromkeys([*self._name_of, *self._text_layers]))

    @property
    def is_complete(self) -> bool:
        """Whether everything wanted has been recorded."""
        return len(self._finite) == len(self.layers)

    def record(self, layer: str, given: Projections) -> None:
        """Take the attention of a layer.

        Args:
            layer: Its name.
            given: What it compares.

        Raises:
            ValueError: If the image has another number of tokens than the grid.
        """
        height, width = self._grid
        if given.queries.shape[2] != height * width:
            raise ValueError(
                f"Expected {height}x{width} locations in {layer!r}, but got "
                f"{given.queries.shape[2]}."
            )
        parts = [given.queries, given.keys]
        if given.text_keys is not None:
            parts.append(given.text_keys)
        # Asked for at the end, all at once: every answer would make a GPU wait.
        total = torch.stack([part.sum(dtype=torch.float32) for part in parts]).sum()
        self._finite[layer] = torch.isfinite(total)
        if name := self._name_of.get(layer):
            weight = 1 / len(self._name_of) if self._average else 1.0
            self._maps[name] = mean_attention(
                given.queries, given.keys, out=self._maps.get(name), weight=weight
            )
        if layer in self._text_layers:
            if given.text_keys is None:
                raise ValueError(f"The layer {layer!r} does not see the text.")
            self._text[layer] = attention_to_text(given.queries, given.keys, given.text_keys)

    def attention(self) -> list[AttentionMap]:
        """Between locations, in the order in which the layers ran.

        Raises:
            RuntimeError: If something wanted did not run.
            ValueError: If a layer overflowed; the message names it.
        """
        self._check()
        count = len(self._name_of) if self._average else 1
        return [AttentionMap(probs, self._grid, name, count) for name, probs in self._maps.items()]

    def text(self) -> list[Tensor]:
        """To the text: ``(B, N, T)`` of each layer, whose rows sum to less than 1."""
        return [self._text[layer] for layer in self._text_layers]

    def _check(self) -> None:
        missing = [layer for layer in self.layers if layer not in self._finite]
        if missing:
            raise RuntimeError(f"The transformer did not run the layer {missing[0]!r}.")
        finite = torch.stack(list(self._finite.values())).tolist()
        for layer, whole in zip(self._finite, finite, strict=True):
            if not whole:
                raise ValueError(
                    f"The attention of {layer!r} is not finite: the model overflows in float16 "
                    "(then compute in float32 or bfloat16, with --dtype or the source's `dtype`), "
                    "or its weights are damaged."
                )


def attention_to_text(queries: Tensor, keys: Tensor, text_keys: Tensor) -> Tensor:
    """The text's part of the attention to image and text together, averaged over heads.

    Args:
        queries: ``(B, H, N, d)``.
        keys: ``(B, H, N, d)``.
        text_keys: ``(B, H, T, d)``.

    Returns:
        ``(B, N, T)``; what the rows lack of 1 is attention to the image.

    Example:
        >>> import torch
        >>> same = torch.zeros(1, 2, 3, 4)
        >>> attention_to_text(same, same, same[:, :, :1])
        tensor([[[0.2500],
                 [0.2500],
                 [0.2500]]])
    """
    images, _, locations, _ = queries.shape
    every = torch.cat([keys, text_keys], dim=2)
    step = max(1, _ENTRIES_AT_ONCE // (images * every.shape[2]))
    wide = torch.float64 if queries.dtype == torch.float64 else torch.float32
    text = queries.new_empty((images, locations, text_keys.shape[2]), dtype=wide)
    for start in range(0, locations, step):
        rows = slice(start, start + step)
        text[:, rows] = mean_attention(queries[:, :, rows], every)[..., locations:]
    return text


@contextmanager
def capturing(transformer: nn.Module, recorder: Recorder, project: Project) -> Iterator[None]:
    """Record layers while the transformer runs inside the block, and end it with the last one.

    Each layer's own processor still computes the layer's output, so that nothing else changes.
    Afterwards, whatever happens, the layers have their own processors again. Threads that share a
    transformer wait for each other.

    Args:
        transformer: The transformer.
        recorder: What takes the attention.
        project: How its layers come to queries and keys.
    """
    attentions: Mapping[str, Any] = {
        name: transformer.get_submodule(name) for name in recorder.layers
    }
    with _lock_of(transformer):
        own = {name: attn.processor for name, attn in attentions.items()}
        try:
            for name, attn in attentions.items():
                attn.set_processor(_Recording(own[name], name, recorder, project))
            yield
        except EnoughError:
            pass
        finally:
            for name, attn in attentions.items():
                attn.set_processor(own[name])


# Beside the transformers, because a lock can be neither copied nor pickled with its model.
_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()
_locks_lock = Lock()


def _lock_of(transformer: object) -> Lock:
    with _locks_lock:
        return _locks.setdefault(transformer, Lock())


class _Recording:
    """An attention processor that shows a recorder its layer before it lets the layer's own run."""

    def __init__(
        self,
        own: Any,  # noqa: ANN401
        layer: str,
        recorder: Recorder,
        project: Project,
    ) -> None:
        self._own = own
        self._layer = layer
        self._recorder = recorder
        self._project = project

    # The layers look at the names of these arguments to know which to pass on.
    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        if attention_mask is not None:
            raise ValueError(f"{self._layer!r} of this transformer is masked, which is not read.")
        given = self._project(attn, hidden_states, encoder_hidden_states, image_rotary_emb)
        self._recorder.record(self._layer, given)
        if self._recorder.is_complete:
            raise EnoughError
        # Without what was not given: not every processor knows it.
        options = {"image_rotary_emb": image_rotary_emb} if image_rotary_emb is not None else {}
        if encoder_hidden_states is not None:
            options["encoder_hidden_states"] = encoder_hidden_states
        return self._own(attn, hidden_states, **options)


def in_heads(values: Tensor, heads: int) -> Tensor:
    """Vectors of all heads side by side, one head after the other.

    Args:
        values: ``(B, N, H*d)``.
        heads: H.

    Returns:
        ``(B, H, N, d)``.
    """
    return rearrange(values, "b n (h d) -> b h n d", h=heads)
