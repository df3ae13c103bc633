"""What the commands that segment have in common: presets, configuration files, devices."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from diffsegkit.configuration import CACHE, OPTIONS, load_preset
from diffsegkit.errors import UsageError
from diffsegkit.interfaces.parts import ALL_PARTS
from diffsegkit.presets import AFFINITY, Preset
from diffsegkit.segmenter import Segmenter

DEFAULT_PRESET = "affinity"


def named_preset(name: str) -> Preset:
    """A preset by name or dotted path.

    Args:
        name: The preset's.

    Raises:
        ComponentError: If there is none.
    """
    # The default by itself, so that no plugin with a preset of that name can stand in the way.
    return AFFINITY if name == DEFAULT_PRESET else load_preset(name)


def chosen_preset(args: Sequence[str]) -> str:
    """The preset, which must be known before parsing: its parts are the parser's defaults.

    Args:
        args: The command line.

    Raises:
        UsageError: If a configuration file cannot be read, or its preset is no name.
    """
    chosen = DEFAULT_PRESET
    for option, value in typed_options(args):
        if option == "--config" and Path(value).is_file():
            chosen = read_config(value).get("preset", chosen)
            if not isinstance(chosen, str):
                raise UsageError(f"Expected the preset to be a name, but got {chosen!r}.")
        if option == "--preset":
            chosen = value
    return chosen


def read_config(path: str) -> dict[str, Any]:
    """The options in a YAML file.

    Args:
        path: The file.

    Raises:
        UsageError: If it holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path!r} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"--config: expected {path!r} to hold options, as --print_config prints them, but got "
            f"{content!r}."
        )
    return content


def config_first(args: Sequence[str]) -> list[str]:
    """The same command line with ``--config`` in front: whatever is typed beats the file.

    Args:
        args: The command line.
    """
    configs: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--config":
            configs += [arg, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            (configs if arg.startswith("--config=") else rest).append(arg)
    return configs + rest


def typed_options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``--name value`` and ``--name=value`` alike.

    Args:
        args: The command line.

    Yields:
        Option and value; what follows an option without a value is not told apart.
    """
    for index, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if equals:
            yield option, value
        elif index + 1 < len(args):
            yield arg, args[index + 1]


def refuse_parts_of_a_whole(args: Sequence[str], segmenter: object) -> None:
    """A whole method has no parts: whoever gives some expects what will not happen.

    Args:
        args: The command line.
        segmenter: What ``--segmenter`` came to.

    Raises:
        UsageError: If parts are given beside it.
    """
    if segmenter is None:
        return
    replaced = [f"--{name.replace('_', '-')}" for name in (*ALL_PARTS, CACHE, *OPTIONS)]
    for arg in args:
        if arg.partition("=")[0].partition(".")[0] in replaced:
            raise UsageError(
                f"--segmenter is a whole method, so {arg.partition('=')[0]} has no meaning beside "
                "it; leave one of them out."
            )


def find_device(name: str) -> torch.device:
    """A device that can be used.

    Args:
        name: Such as ``"cuda:1"``; ``"auto"`` takes a GPU if there is one.

    Raises:
        UsageError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":  # it has shapes and no values
            raise RuntimeError(name)
        torch.empty(0, device=device)
    # Which error an absent device raises depends on how torch was built.
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used here; see `diffsegkit doctor`, or use "
            "--device cpu."
        ) from error
    return device


def set_dtype(method: nn.Module, dtype: str, device: torch.device) -> str:
    """Put a method in the dtype that was asked for, or in its source's own for the device.

    Args:
        method: A segmenter, or a method without attention, which ``auto`` leaves as it is.
        dtype: Such as ``"float16"``, or ``"auto"``.
        device: Where the method is going to be.

    Returns:
        The dtype it is in now; ``"auto"`` if it is as it was made.
    """
    own = method.source.default_dtype(device) if isinstance(method, Segmenter) else None
    chosen = own if dtype == "auto" else getattr(torch, dtype)
    if chosen is None:
        return "auto"
    method.to(chosen)
    return str(chosen).removeprefix("torch.")
