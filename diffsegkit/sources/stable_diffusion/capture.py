"""Self-attention maps taken from a UNet while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from diffsegkit.interfaces import AttentionMap
from diffsegkit.interfaces.checks import Grid
from diffsegkit.kernels import mean_attention

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention


class EnoughError(Exception):
    """Every wanted layer has run; what the UNet would still compute is not needed."""


class Recorder:
    """Averages the maps of layers over heads, and over the layers of a grid, as they come.

    Args:
        grids: The wanted layers and their grids.
        average: Whether the layers of one grid become one map, or each gives its own.
    """

    def __init__(self, grids: Mapping[str, Grid], average: bool) -> None:
        self._grids = grids
        # What a layer's map is added to.
        self._name_of = {
            name: f"{grid[0]}x{grid[1]}" if average else name for name, grid in grids.items()
        }
        self._counts = Counter(self._name_of.values())
        self._maps: dict[str, Tensor] = {}
        self._finite: dict[str, Tensor] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every wanted layer has been recorded."""
        return len(self._finite) == len(self._grids)

    def record(self, layer: str, attn: Attention, hidden: Tensor) -> None:
        """Take the map of a layer.

        Args:
            layer: Its name.
            attn: The layer.
            hidden: Its input ``(B, h*w, C)``.
        """
        q, k = _queries_and_keys(attn, hidden)
        height, width = self._grids[layer]
        if q.shape[2] != height * width:
            raise ValueError(
                f"Expected {height}x{width} locations in {layer!r}, but got {q.shape[2]}."
            )
        # Asked for at the end, all at once: every answer would make a GPU wait.
        self._finite[layer] = torch.isfinite(
            q.sum(dtype=torch.float32) + k.sum(dtype=torch.float32)
        )
        name = self._name_of[layer]
        self._maps[name] = mean_attention(
            q, k, attn.scale, out=self._maps.get(name), weight=1 / self._counts[name]
        )

    def attention(self) -> list[AttentionMap]:
        """The maps, in the order in which their first layers ran.

        Raises:
            RuntimeError: If a wanted layer did not run.
            ValueError: If a layer overflowed; the message names it.
        """
        missing = sorted(set(self._grids) - set(self._finite))
        if missing:
            raise RuntimeError(f"The UNet did not run the layer {missing[0]!r}.")
        finite = torch.stack(list(self._finite.values())).tolist()
        for layer, whole in zip(self._finite, finite, strict=True):
            if not whole:
                raise ValueError(
                    f"The attention of {layer!r} is not finite: the model overflows in float16 "
                    "(then compute in float32 or bfloat16, with --dtype or the source's `dtype`), "
                    "or its weights are damaged."
                )
        grid_of = {self._name_of[layer]: grid for layer, grid in self._grids.items()}
        return [
            AttentionMap(probs, grid_of[name], name, self._counts[name])
            for name, probs in self._maps.items()
        ]


@contextmanager
def capturing(
    unet: UNet2DConditionModel, recorder: Recorder, layers: Mapping[str, Grid]
) -> Iterator[None]:
    """Record layers while the UNet runs inside the block, and end the block with the last one.

    Each layer's own processor still computes the layer's output, so that nothing else changes.
    Afterwards, whatever happens, the layers have their own processors again. Threads that share a
    UNet wait for each other.

    Args:
        unet: The UNet.
        recorder: What takes the maps.
        layers: Which layers.
    """
    modules = {name: unet.get_submodule(name) for name in layers}
    with _lock_of(unet):
        own = {name: attn.processor for name, attn in modules.items()}
        try:
            for name, attn in modules.items():
                attn.set_processor(_Recording(own[name], name, recorder))
            yield
        except EnoughError:
            pass
        finally:
            for name, attn in modules.items():
                attn.set_processor(own[name])


# Beside the UNets, because a lock can be neither copied nor pickled with its model.
_locks: WeakKeyDictionary[object, Lock] = WeakKeyDictionary()
_locks_lock = Lock()


def _lock_of(unet: object) -> Lock:
    with _locks_lock:
        return _locks.setdefault(unet, Lock())


class _Recording:
    """An attention processor that shows a recorder its layer before it lets the layer's own run."""

    def __init__(self, own: Any, layer: str, recorder: Recorder) -> None:  # noqa: ANN401
        self._own = own
        self._layer = layer
        self._recorder = recorder

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        if encoder_hidden_states is not None or attention_mask is not None:
            raise ValueError(f"{self._layer!r} of this UNet is no plain self-attention.")
        self._recorder.record(self._layer, attn, hidden_states)
        if self._recorder.is_complete:
            raise EnoughError
        output: Tensor = self._own(attn, hidden_states, **kwargs)
        return output


def _queries_and_keys(attn: Attention, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, H, N, d)`` each, as diffusers' own processors compute them."""
    if attn.group_norm is not None:
        hidden = attn.group_norm(hidden.mT).mT
    q, k = (
        projection(hidden).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        for projection in (attn.to_q, attn.to_k)
    )
    if attn.norm_q is not None:
        q = attn.norm_q(q)
    if attn.norm_k is not None:
        k = attn.norm_k(k)
    return q, k
