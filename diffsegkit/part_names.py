"""Registered names, wherever a part may be given by one: on a command line and in YAML.

jsonargparse by itself knows the short names of classes that are imported already, and of no
others. So names become dotted paths, through the registry, before it parses.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from diffsegkit import registry
from diffsegkit.errors import UsageError
from diffsegkit.interfaces.parts import ALL_PARTS

_KIND_OF = {
    **{part: part for part in ALL_PARTS},
    "anchors": "anchors",
    "segmenter": "segmenter",
    "data": "datamodule",
}
"""Which kind of component each key names, on a command line and in YAML."""


def complete_part(kind: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    """A part as ``class_path`` and ``init_args``, its class imported and checked."""
    part = dict(value) if isinstance(value, Mapping) else {"class_path": value}
    unknown = sorted(set(part) - {"class_path", "init_args"})
    if not isinstance(part.get("init_args", {}), Mapping):
        unknown = ["init_args"]
    if not isinstance(part.get("class_path"), str) or unknown:
        raise UsageError(
            f"Expected the {kind} to be a name, a dotted path, or a mapping with class_path and "
            f"init_args alone, but got {value!r}."
        )
    part["class_path"], _ = registry.resolve(kind, part["class_path"])
    return part


MODE = "diffsegkit"
"""jsonargparse's parser mode: YAML in which names are resolved."""

_NUMBERS_BY_NUMBERS = re.compile(r"\{\s*\d+:[\d.]+(?:\s*,\s*\d+:[\d.]+)*\s*\}")


def _load_with_paths(text: str) -> Any:  # noqa: ANN401
    """YAML, with the registered names of parts resolved wherever a part may stand."""
    # YAML reads the 64:2 of {64:2, 32:1} as one number in base 60.
    text = _NUMBERS_BY_NUMBERS.sub(lambda match: match[0].replace(":", ": "), text)
    return _resolve(get_loader("yaml")(text))


set_loader(MODE, _load_with_paths, exceptions=(yaml.YAMLError,))


def _resolve(value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_resolve(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _resolve_part(key, _resolve(item, depth + 1), depth) for key, item in value.items()
    }


def _resolve_part(key: str, value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    if key not in _KIND_OF:
        return value
    name = value.get("class_path") if isinstance(value, dict) else value
    if not isinstance(name, str) or "/" in name or name.endswith((".yaml", ".json")):
        return value
    # Deep inside, an argument may be called `source` and be something else altogether.
    kind = _KIND_OF[key]
    if depth and "." not in name and name not in registry.list_components(kind):
        return value
    return complete_part(kind, value)


def with_paths(args: Sequence[str], default_parts: Mapping[str, str]) -> list[str]:
    """A command line with ``--merger NAME`` and ``--merger.help [NAME]`` turned to dotted paths."""
    resolved: list[str] = []
    pending: str | None = None
    for arg in args:
        option, equals, value = arg.partition("=")
        kind = _part_of(option)
        if pending is not None and not arg.startswith("--"):
            resolved.append(_resolve_value(pending, arg))
            pending = None
        elif kind is not None and equals:
            resolved.append(f"{option}={_resolve_value(kind, value)}")
            pending = None
        else:
            if pending is not None:
                resolved += _default_of(resolved[-1], pending, default_parts)
            resolved.append(arg)
            pending = kind
    if pending is not None:
        resolved += _default_of(resolved[-1], pending, default_parts)
    return resolved


def _default_of(option: str, kind: str, default_parts: Mapping[str, str]) -> list[str]:
    """What ``--merger.help`` without a name is about."""
    return [default_parts[kind]] if option.endswith(".help") and kind in default_parts else []


def _part_of(option: str) -> str | None:
    """``"merger"`` for ``--merger``, ``--merger.class_path`` and ``--merger.help``."""
    if not option.startswith("--"):
        return None
    path = option.removeprefix("--").removesuffix(".class_path").removesuffix(".help")
    # A part within a part, such as --source.source, too.
    return path.rpartition(".")[2] if all(name in _KIND_OF for name in path.split(".")) else None


def _resolve_value(kind: str, value: str) -> str:
    if value.startswith("{"):
        try:
            return json.dumps(_resolve_part(kind, get_loader("yaml")(value)))
        except yaml.YAMLError as error:
            raise UsageError(f"--{kind}: {value!r} is not valid YAML: {error}") from error
    resolved = _resolve_part(kind, value)
    return resolved["class_path"] if isinstance(resolved, dict) else value
