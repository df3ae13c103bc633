"""The layers and modules of a UNet: their names, their grids, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from diffsegkit.interfaces.checks import Grid

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

_SELF_ATTENTION = ".attn1"
_CROSS_ATTENTION = ".attn2"


def self_attention_layers(unet: UNet2DConditionModel) -> dict[str, int]:
    """The layers in which locations attend to each other, in the order in which the UNet runs them.

    Args:
        unet: The UNet.

    Returns:
        For each layer's name, how many cells of the latent one cell of its grid spans: each block
        of the way down but the last halves the grid, each of the way up but the last doubles it.
    """
    return _spans(unet, _SELF_ATTENTION)


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, int]:
    """The layers in which locations attend to text, in the order in which the UNet runs them.

    Args:
        unet: The UNet.

    Returns:
        As :func:`self_attention_layers` does.
    """
    return _spans(unet, _CROSS_ATTENTION)


def _spans(unet: UNet2DConditionModel, suffix: str) -> dict[str, int]:
    levels = len(unet.down_blocks)
    blocks = {
        **{f"down_blocks.{index}": 2**index for index in range(levels)},
        "mid_block": 2 ** (levels - 1),
        **{f"up_blocks.{index}": 2 ** (levels - 1 - index) for index in range(levels)},
    }
    names = [name for name, _ in unet.named_modules() if name.endswith(suffix)]
    return {
        name: span
        for block, span in blocks.items()
        for name in names
        if name.startswith(f"{block}.")
    }


def is_plain(unet: UNet2DConditionModel) -> bool:
    """Whether a UNet computes what its weights and configuration say, and nothing else.

    Args:
        unet: The UNet.

    Returns:
        False with adapters (LoRA), FreeU, or attention processors that are not diffusers' own.
    """
    library = "diffusers.models.attention_processor"
    own = all(type(each).__module__ == library for each in unet.attn_processors.values())
    # What enable_freeu() sets on each block of the way up.
    freeu = any(getattr(block, "s1", None) for block in unet.up_blocks)
    adapters = any(hasattr(module, "lora_A") for module in unet.modules())
    return own and not freeu and not adapters


def layer_grids(layers: Mapping[str, int], latent_grid: Grid) -> dict[str, Grid]:
    """The grid of each layer for a latent of a size.

    Args:
        layers: As :func:`self_attention_layers` gives them.
        latent_grid: ``(h, w)`` of the latent. Where a span does not divide it, the last cell of a
            row or column is a partial one, as the strided convolutions have it.
    """
    height, width = latent_grid
    return {name: (-(-height // span), -(-width // span)) for name, span in layers.items()}


def select_modules(unet: UNet2DConditionModel, wanted: Sequence[str]) -> list[str]:
    """The modules whose output somebody asks for.

    Args:
        unet: The UNet.
        wanted: Names of modules, or name patterns.

    Returns:
        Names, each once, in the order of the modules.

    Raises:
        ValueError: If an entry selects nothing.
    """
    names = [name for name, _ in unet.named_modules() if name]
    selected: set[str] = set()
    for entry in wanted:
        found = {name for name in names if fnmatchcase(name, entry)}
        if not found:
            raise ValueError(
                f"Expected argument `features` to hold names or name patterns of this UNet's "
                f"modules, but {entry!r} selects none; its blocks are "
                f"{', '.join(sorted(_blocks(names)))}, and there are names like "
                f"{next((name for name in names if name.endswith(_SELF_ATTENTION)), names[-1])!r}."
            )
        selected |= found
    return [name for name in names if name in selected]


def _blocks(names: Sequence[str]) -> set[str]:
    blocks = ("down_blocks.", "up_blocks.")
    return {name for name in names if name.startswith(blocks) and name.count(".") == 1} | {
        name for name in names if name == "mid_block"
    }


def select_layers(
    grids: Mapping[str, Grid],
    wanted: Sequence[str | int] | None,
    argument: str = "layers",
) -> dict[str, Grid]:
    """The layers that somebody asks for.

    Args:
        grids: The grid of each layer.
        wanted: Name patterns (``"up_blocks.*"``; without a wildcard, a part of the name) and
            resolutions (the longer side of a grid, in cells); None for all.
        argument: What it was given as, for the message.

    Returns:
        The selected layers with their grids, in their order.

    Raises:
        ValueError: If an entry selects nothing.
    """
    if wanted is None:
        return dict(grids)
    selected: set[str] = set()
    for entry in wanted:
        found = {name for name, grid in grids.items() if _matches(entry, name, grid)}
        if not found:
            sides = sorted({max(grid) for grid in grids.values()}, reverse=True)
            blocks = sorted({name.partition(".attentions")[0] for name in grids})
            raise ValueError(
                f"Expected argument `{argument}` to hold name patterns or resolutions of this "
                f"UNet, but {entry!r} selects none; for an image of this size its resolutions are "
                f"{', '.join(map(str, sides))}, and its layers begin with {', '.join(blocks)}."
            )
        selected |= found
    return {name: grid for name, grid in grids.items() if name in selected}


def _matches(entry: str | int, name: str, grid: Grid) -> bool:
    if isinstance(entry, int) or entry.isdecimal():
        return max(grid) == int(entry)
    pattern = entry if any(wildcard in entry for wildcard in "*?[") else f"*{entry}*"
    return fnmatchcase(name, pattern)
