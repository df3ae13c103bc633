"""Attention maps and features taken from a UNet while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import Tensor, nn

from diffsegkit.interfaces import AttentionMap
from diffsegkit.interfaces.checks import Grid
from diffsegkit.kernels import mean_attention

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

Kind = Literal["attention", "output"]
"""What is taken of a module."""


class EnoughError(Exception):
    """Every wanted layer has run; what the UNet would still compute is not needed."""


class Recorder:
    """Takes what is wanted of a UNet while it runs.

    Attention maps are averaged over heads, and over the layers of a grid, as they come.

    Args:
        grids: The wanted self-attention layers and their grids.
        average: Whether the layers of one grid become one map, or each gives its own.
        cross: The wanted cross-attention layers and their grids.
        features: The modules whose output is wanted, and the grid of those whose output is a list
            of locations (None where that is not known).
    """

    def __init__(
        self,
        grids: Mapping[str, Grid],
        average: bool,
        cross: Mapping[str, Grid] | None = None,
        features: Mapping[str, Grid | None] | None = None,
    ) -> None:
        self._self_grids, self._cross_grids = grids, cross or {}
        self._grids = {**self._self_grids, **self._cross_grids}
        self._feature_grids = features or {}
        # What a layer's map is added to.
        self._name_of = {
            name: f"{kind}{grid[0]}x{grid[1]}" if average else name
            for kind, own in (("", self._self_grids), ("cross ", self._cross_grids))
            for name, grid in own.items()
        }
        self._counts = Counter(self._name_of.values())
        self._maps: dict[str, Tensor] = {}
        self._features: dict[str, Tensor] = {}
        # By kind too: a layer's attention and its output can both be wanted.
        self._finite: dict[tuple[Kind, str], Tensor] = {}

    @property
    def is_complete(self) -> bool:
        """Whether everything wanted has been recorded."""
        return len(self._finite) == len(self._grids) + len(self._feature_grids)

    def record(self, layer: str, attn: Attention, hidden: Tensor, text: Tensor | None) -> None:
        """Take the map of a layer.

        Args:
            layer: Its name.
            attn: The layer.
            hidden: Its input ``(B, h*w, C)``.
            text: What it attends to ``(B, T, D)``; None for itself.
        """
        q, k = _queries_and_keys(attn, hidden, text)
        height, width = self._grids[layer]
        if q.shape[2] != height * width:
            raise ValueError(
                f"Expected {height}x{width} locations in {layer!r}, but got {q.shape[2]}."
            )
        # Asked for at the end, all at once: every answer would make a GPU wait.
        self._finite["attention", layer] = torch.isfinite(
            q.sum(dtype=torch.float32) + k.sum(dtype=torch.float32)
        )
        name = self._name_of[layer]
        self._maps[name] = mean_attention(
            q, k, attn.scale, out=self._maps.get(name), weight=1 / self._counts[name]
        )

    def record_features(self, module: str, output: Any) -> None:  # noqa: ANN401
        """Take the output of a module.

        Args:
            module: Its name.
            output: A tensor, or a tuple with one in front.

        Raises:
            ValueError: If it is no map over locations.
        """
        values = output[0] if isinstance(output, tuple) else output
        grid = self._feature_grids[module]
        is_list = isinstance(values, Tensor) and values.ndim == 3 and grid is not None
        if is_list and grid is not None and values.shape[1] == grid[0] * grid[1]:
            values = rearrange(values, "b (h w) c -> b c h w", h=grid[0])
        if not isinstance(values, Tensor) or values.ndim != 4:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"Expected the output of {module!r} to be a feature map, but got {shape}; give "
                "`features` blocks, their attentions or resnets, or attention layers."
            )
        # A copy, because what comes after may change it in place, as FreeU does.
        self._features[module] = values.to(torch.float32, copy=True)
        self._finite["output", module] = torch.isfinite(values.sum(dtype=torch.float32))

    def attention(self) -> list[AttentionMap]:
        """The self-attention maps, in the order in which their first layers ran.

        Raises:
            RuntimeError: If something wanted did not run.
            ValueError: If a layer overflowed; the message names it.
        """
        self._check()
        grid_of = {self._name_of[layer]: grid for layer, grid in self._self_grids.items()}
        return [
            AttentionMap(probs, grid_of[name], name, self._counts[name])
            for name, probs in self._maps.items()
            if name in grid_of
        ]

    def cross(self) -> list[Tensor]:
        """The cross-attention maps ``(B, T, h, w)``, in the order of their first layers."""
        grid_of = {self._name_of[layer]: grid for layer, grid in self._cross_grids.items()}
        return [
            rearrange(probs, "b (h w) t -> b t h w", h=grid_of[name][0])
            for name, probs in self._maps.items()
            if name in grid_of
        ]

    def features(self) -> list[Tensor]:
        """The feature maps ``(B, C, h, w)`` float32, in the order in which their modules ran."""
        return list(self._features.values())

    def _check(self) -> None:
        wanted = [("attention", layer) for layer in self._grids]
        wanted += [("output", module) for module in self._feature_grids]
        missing = sorted(name for kind, name in wanted if (kind, name) not in self._finite)
        if missing:
            raise RuntimeError(f"The UNet did not run the layer {missing[0]!r}.")
        finite = torch.stack(list(self._finite.values())).tolist()
        for (kind, layer), whole in zip(self._finite, finite, strict=True):
            if not whole:
                raise ValueError(
                    f"The {kind} of {layer!r} is not finite: the model overflows in float16 "
                    "(then compute in float32 or bfloat16, with --dtype or the source's `dtype`), "
                    "or its weights are damaged."
                )


@contextmanager
def capturing(
    unet: UNet2DConditionModel,
    recorder: Recorder,
    layers: Iterable[str],
    modules: Iterable[str] = (),
) -> Iterator[None]:
    """Record layers while the UNet runs inside the block, and end the block with the last one.

    Each layer's own processor still computes the layer's output, so that nothing else changes.
    Afterwards, whatever happens, the layers have their own processors again. Threads that share a
    UNet wait for each other.

    Args:
        unet: The UNet.
        recorder: What takes the maps.
        layers: Of which attention layers.
        modules: Of which modules the output is taken.
    """
    attentions = {name: unet.get_submodule(name) for name in layers}
    with _lock_of(unet), ExitStack() as stack:
        own = {name: attn.processor for name, attn in attentions.items()}
        try:
            for name, attn in attentions.items():
                attn.set_processor(_Recording(own[name], name, recorder))
            for name in modules:
                hook = _output_hook(name, recorder)
                handle = unet.get_submodule(name).register_forward_hook(hook)
                stack.callback(handle.remove)
            yield
        except EnoughError:
            pass
        finally:
            for name, attn in attentions.items():
                attn.set_processor(own[name])


def _output_hook(name: str, recorder: Recorder) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_: nn.Module, __: Any, output: Any) -> None:  # noqa: ANN401
        recorder.record_features(name, output)
        if recorder.is_complete:
            raise EnoughError

    return hook


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
        is_cross = self._layer.endswith("attn2")
        if (encoder_hidden_states is not None) != is_cross or attention_mask is not None:
            kind = "cross" if is_cross else "self"
            raise ValueError(f"{self._layer!r} of this UNet is no plain {kind}-attention.")
        self._recorder.record(self._layer, attn, hidden_states, encoder_hidden_states)
        if self._recorder.is_complete:
            raise EnoughError
        if is_cross:
            kwargs["encoder_hidden_states"] = encoder_hidden_states
        output: Tensor = self._own(attn, hidden_states, **kwargs)
        return output


def _queries_and_keys(
    attn: Attention, hidden: Tensor, text: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``(B, H, N, d)`` and ``(B, H, T, d)``, as diffusers' own processors compute them."""
    if attn.group_norm is not None:
        hidden = attn.group_norm(hidden.mT).mT
    if text is None:
        text = hidden
    elif attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    q, k = (
        projection(values).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        for projection, values in ((attn.to_q, hidden), (attn.to_k, text))
    )
    if attn.norm_q is not None:
        q = attn.norm_q(q)
    if attn.norm_k is not None:
        k = attn.norm_k(k)
    return q, k
