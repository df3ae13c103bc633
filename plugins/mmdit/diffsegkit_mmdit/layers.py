"""The attention layers of a transformer: their names, and which of them are wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

JOINT = ".attn"
"""How the name of a layer ends in which image and text attend to each other."""

_NUMBER = re.compile(r"-?\d+")


def block_of(layer: str) -> tuple[str, int]:
    """The list of blocks that a layer is in, and where.

    Args:
        layer: A layer's name.

    Example:
        >>> block_of("transformer_blocks.9.attn")
        ('transformer_blocks', 9)
    """
    name, index, _ = layer.split(".")
    return name, int(index)


def select_layers(
    layers: Sequence[str], wanted: Sequence[str | int] | None, argument: str = "layers"
) -> list[str]:
    """The layers that somebody asks for.

    Args:
        layers: Names, in the order in which the transformer runs them.
        wanted: Numbers of blocks, counted through all lists of blocks from 0 (from the end, if
            negative), for their joint attention; names or the beginnings of names up to a dot
            (``"single_transformer_blocks"``); patterns with ``*``, ``?`` or ``[]``. None for every
            joint attention.
        argument: What it was given as, for the message.

    Returns:
        Each once, in their order.

    Raises:
        ValueError: If an entry selects nothing.

    Example:
        >>> names = ["transformer_blocks.0.attn", "transformer_blocks.0.attn2",
        ...          "transformer_blocks.1.attn"]
        >>> select_layers(names, [-1, "transformer_blocks.0.attn2"])
        ['transformer_blocks.0.attn2', 'transformer_blocks.1.attn']
    """
    joint = [name for name in layers if name.endswith(JOINT)]
    if wanted is None:
        return joint
    selected: set[str] = set()
    for entry in wanted:
        found = _matching(layers, joint, entry)
        if not found:
            last = len(joint) - 1
            others = sorted({name.rpartition(".")[2] for name in layers} - {JOINT[1:]})
            also = f", beside some of which there is {others[0]!r}" if others else ""
            raise ValueError(
                f"Expected argument `{argument}` to hold numbers of blocks from 0 to {last}, names "
                f"or name patterns of this transformer's attention layers, but {entry!r} selects "
                f"none; they are called {joint[0]!r} to {joint[-1]!r}{also}."
            )
        selected |= found
    return [name for name in layers if name in selected]


def blocks_to_keep(layers: Sequence[str], counts: Mapping[str, int]) -> dict[str, int]:
    """How many blocks of each list run, if the transformer ends with the last of some layers.

    Args:
        layers: Names, in the order in which the transformer runs them; not empty.
        counts: How many blocks each list has, in the order of the lists.

    Example:
        >>> blocks_to_keep(["transformer_blocks.9.attn"], {"transformer_blocks": 24})
        {'transformer_blocks': 10}
        >>> counts = {"transformer_blocks": 19, "single_transformer_blocks": 38}
        >>> blocks_to_keep(["single_transformer_blocks.0.attn"], counts)
        {'transformer_blocks': 19, 'single_transformer_blocks': 1}
    """
    last, index = block_of(layers[-1])
    lists = list(counts)
    place = lists.index(last)
    return {
        name: counts[name] if at < place else (index + 1 if at == place else 0)
        for at, name in enumerate(lists)
    }


def _matching(layers: Sequence[str], joint: Sequence[str], entry: str | int) -> set[str]:
    if isinstance(entry, int) or _NUMBER.fullmatch(entry):
        number = int(entry)
        return {joint[number]} if -len(joint) <= number < len(joint) else set()
    if any(wildcard in entry for wildcard in "*?["):
        return {name for name in layers if fnmatchcase(name, entry)}
    return {name for name in layers if f"{name}.".startswith(f"{entry}.")}
