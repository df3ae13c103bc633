"""Queries, keys and values of a transformer's attention layers, while it runs."""

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

IMPLEMENTATION = "diffsegkit"
"""What models that are to be captured have as their ``attn_implementation``."""


@dataclass(frozen=True, eq=False)
class AttentionStates:
    """What one attention layer compares.

    Args:
        query: ``(B, H, N, d)``, of all tokens; with rotary position embeddings applied, if the
            model has them.
        key: Likewise.
        value: Likewise, but never rotated.
        scale: What the products of queries and keys are multiplied with before the softmax.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float


Take = Callable[[int, AttentionStates], None]
"""Called with the number of a layer and what it compares."""


class _EnoughError(Exception):
    """Every layer asked for has passed; the rest of the model need not run."""


@dataclass
class _Recorder:
    """Counts the attention layers of one pass, and hands over those that are wanted."""

    wanted: frozenset[int]
    take: Take
    to_the_end: bool
    seen: int = 0
    taken: list[int] = field(default_factory=list)

    def see(self, states: AttentionStates) -> None:
        layer, self.seen = self.seen, self.seen + 1
        if layer in self.wanted:
            self.take(layer, states)
            self.taken.append(layer)
        if layer == max(self.wanted) and not self.to_the_end:
            raise _EnoughError


# Local to a thread, so that models in two threads do not mix.
_active: ContextVar[_Recorder | None] = ContextVar("diffsegkit_attention_recorder", default=None)


def register_implementation() -> None:
    """Make :data:`IMPLEMENTATION` known to transformers; a second time changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, _attend)


def capture_attention(
    model: nn.Module,
    inputs: Mapping[str, Any],
    layers: Collection[int],
    take: Take,
    *,
    hidden_states: bool = False,
) -> Any:  # noqa: ANN401
    """Run a model no further than needed, and hand over what some attention layers compare.

    With fused attention transformers' ``output_attentions`` gives nothing, without a word. So the
    model calls a function of ours, which looks at its arguments and lets transformers' own fused
    attention go on.

    Args:
        model: A model with one attention layer per block and :data:`IMPLEMENTATION` as its
            ``attn_implementation``.
        inputs: What it is called with, by name.
        layers: The layers wanted, counted from 0 in the order in which they run; at least one.
        take: Called for each of them.
        hidden_states: Whether the tokens between the layers are wanted too; then the model runs
            to its end.

    Returns:
        The model's output if ``hidden_states`` are wanted, otherwise None.

    Raises:
        RuntimeError: If the model runs through with a layer missing.
    """
    recorder = _Recorder(frozenset(layers), take, to_the_end=hidden_states)
    token = _active.set(recorder)
    output = None
    try:
        with torch.no_grad():
            output = (
                model(**inputs, output_hidden_states=True) if hidden_states else model(**inputs)
            )
    except _EnoughError:
        pass
    finally:
        _active.reset(token)
    missing = sorted(recorder.wanted.difference(recorder.taken))
    if missing:
        raise RuntimeError(
            f"{type(model).__name__} gave no attention of layers {missing}: it called diffsegkit's "
            f"attention {recorder.seen} times. Was its attn_implementation changed?"
        )
    return output


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """An attention function of transformers: the fused one, with somebody looking on."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    recorder = _active.get()
    if recorder is not None:
        scale = options.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        recorder.see(AttentionStates(query, key, value, scale))
    output: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
    return output, None
