"""From names and plain data to a segmenter, with types checked by jsonargparse.

The command line and :meth:`Segmenter.from_preset` both go through here, so a name, a type or a
misspelt argument means the same in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from diffsegkit import registry
from diffsegkit.errors import ComponentError, DiffSegKitError, UsageError
from diffsegkit.images.geometry import Resize
from diffsegkit.interfaces import Aggregator, Assigner, AttentionSource, Merger
from diffsegkit.parsing import SentenceParser, did_you_mean, one_sentence
from diffsegkit.presets import Preset
from diffsegkit.segmenter import Segmenter

PARTS: dict[str, type] = {
    "source": AttentionSource,
    "aggregator": Aggregator,
    "merger": Merger,
    "assigner": Assigner,
}
"""The four parts and their base classes."""

OPTIONS = ("image_size", "resize", "antialias")
"""What a preset sets beside the parts."""

_HELP = {
    "source": "Where attention comes from; `diffsegkit list sources`.",
    "aggregator": "How attention of several grids becomes one; `diffsegkit list aggregators`.",
    "merger": "How maps become proposals; `diffsegkit list mergers`.",
    "assigner": "How proposals become pixels; `diffsegkit list assigners`.",
}


class ConfigurationParser(SentenceParser):
    """A parser in which parts may be given by their registered names, in YAML too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"parser_mode": _MODE, **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # noqa: ANN401
        """Parse a command line; see jsonargparse."""
        return super().parse_args(_with_paths(args or []), *rest, **kwargs)


def add_segmenter_arguments(parser: ArgumentParser, preset: Preset) -> None:
    """Give a parser the arguments of a segmenter, with a preset's as defaults.

    Args:
        parser: The parser to extend with ``--source``, ``--aggregator``, ``--merger``,
            ``--assigner`` (and ``--merger.thresholds`` and so on), ``--image-size``, ``--resize``
            and ``--antialias``.
        preset: The defaults.
    """
    for kind, base in PARTS.items():
        group = parser.add_argument_group(f"{kind} options")
        group.add_argument(f"--{kind}", type=base, metavar="NAME", help=_HELP[kind])
    group = parser.add_argument_group("size options")
    group.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="Longer side at which the source sees it."
    )
    group.add_argument(
        "--resize",
        type=Resize,
        metavar="|".join(get_args(Resize)),
        help="Keep the aspect ratio, squash to a square, or cut the centre square out.",
    )
    group.add_argument(
        "--antialias", type=bool, metavar="true|false", help="Average when shrinking."
    )
    parser.set_defaults(preset_configuration(preset))


def preset_configuration(preset: Preset) -> dict[str, Any]:
    """A preset as plain data, with dotted paths for names.

    Args:
        preset: The preset.

    Returns:
        ``{"source": {"class_path": ..., "init_args": {...}}, ..., "image_size": ...}``.

    Raises:
        ComponentError: If a part is unknown, cannot be imported, or needs a missing package.
    """
    missing = preset.missing()
    if missing:
        remedy = f"pip install '{preset.extra}'" if preset.extra else "install them"
        raise ComponentError(f"This preset needs {' and '.join(missing)}: {remedy}.")
    parts = {kind: _complete(kind, getattr(preset, kind)) for kind in PARTS}
    return parts | {option: getattr(preset, option) for option in OPTIONS}


def segmenter_from_preset(preset: str | Preset, overrides: Mapping[str, Any]) -> Segmenter:
    """What :meth:`Segmenter.from_preset` does.

    Args:
        preset: A preset or its name.
        overrides: Parts and options to exchange.

    Returns:
        The segmenter.

    Raises:
        UsageError: If something is unknown or has a wrong type.
    """
    unknown = sorted(set(overrides) - {*PARTS, *OPTIONS})
    if unknown:
        known = [*PARTS, *OPTIONS]
        raise UsageError(
            f"There is no {unknown[0]!r} to override{did_you_mean(unknown[0], known)} The "
            f"overrides are {', '.join(known)}."
        )
    if isinstance(preset, str):
        preset = load_preset(preset)
    configuration = preset_configuration(preset)
    instances = {}
    for name, value in overrides.items():
        if name in PARTS and isinstance(value, PARTS[name]):
            instances[name] = value
        elif name in PARTS:
            configuration[name] = _overridden(name, configuration[name], value)
        else:
            configuration[name] = value
    parser = ConfigurationParser()
    add_segmenter_arguments(parser, preset)
    return build_segmenter(parser, parser.parse_object(configuration), instances)


def load_preset(name: str) -> Preset:
    """A preset by name or dotted path.

    Raises:
        ComponentError: If there is none, or it cannot be imported.
    """
    preset: Preset = registry.load("presets", name)
    return preset


def build_segmenter(
    parser: ArgumentParser, parsed: Namespace, instances: Mapping[str, Any] | None = None
) -> Segmenter:
    """Construct the parts of a parsed configuration.

    Args:
        parser: The parser that parsed it.
        parsed: What it gave.
        instances: Parts that exist already and take the place of the configuration's.

    Returns:
        A segmenter that carries its resolved configuration.

    Raises:
        UsageError: If a part refuses its arguments.
    """
    instances = instances or {}
    for name in instances:
        del parsed[name]
    try:
        built = parser.instantiate(parsed)
        parts = {kind: instances[kind] if kind in instances else built[kind] for kind in PARTS}
        options = {option: built[option] for option in OPTIONS}
        segmenter = Segmenter(**parts, **options)
    except DiffSegKitError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(one_sentence(str(error))) from error
    plain = json.loads(parser.dump(parsed, format="json", skip_validation=True))
    segmenter.configuration = {
        name: plain[name] if name not in instances else _class_path(instances[name])
        for name in (*PARTS, *OPTIONS)
    }
    return segmenter


def _class_path(part: object) -> dict[str, str]:
    return {"class_path": f"{type(part).__module__}.{type(part).__qualname__}"}


def _complete(kind: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    """A part as ``class_path`` and ``init_args``, its class imported and checked."""
    part = {"class_path": value} if isinstance(value, str) else dict(value)
    if not isinstance(part.get("class_path"), str):
        raise UsageError(
            f"Expected the {kind} to be a name, a dotted path, or a mapping with class_path and "
            f"init_args, but got {value!r}."
        )
    registry.load(kind, part["class_path"])
    part["class_path"] = registry.locate(kind, part["class_path"])
    return part


def _overridden(kind: str, current: dict[str, Any], value: Any) -> dict[str, Any]:  # noqa: ANN401
    """A preset's part, changed by what a caller gives for it."""
    if isinstance(value, Mapping) and "class_path" not in value:
        init_args = value.get("init_args", value)
        return current | {"init_args": {**current.get("init_args", {}), **init_args}}
    if isinstance(value, str | Mapping):
        return _complete(kind, value)
    raise UsageError(
        f"Expected the {kind} to be a name, a mapping of arguments, or an instance of "
        f"{PARTS[kind].__name__}, but got {value!r}."
    )


_MODE = "diffsegkit"


def _load_with_paths(text: str) -> Any:  # noqa: ANN401
    """YAML, with the registered names of parts resolved wherever a part may stand."""
    if text.startswith("{"):
        # YAML reads the 64:2 of {64:2, 32:1} as one number in base 60.
        text = re.sub(r"(?<=[{,\s])(\d+):(?=\S)", r"\1: ", text)
    return _resolve(get_loader("yaml")(text))


set_loader(_MODE, _load_with_paths)


def _resolve(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_resolve(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _resolve_part(key, _resolve(item)) for key, item in value.items()}


def _resolve_part(key: str, value: Any) -> Any:  # noqa: ANN401
    is_name = isinstance(value, str) and "/" not in value and not value.endswith((".yaml", ".json"))
    if key in PARTS and (is_name or (isinstance(value, dict) and "class_path" in value)):
        return _complete(key, value)
    return value


def _with_paths(args: Sequence[str]) -> list[str]:
    """A command line with ``--merger NAME`` and ``--merger.help NAME`` turned to dotted paths."""
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
            resolved.append(arg)
            pending = kind
    return resolved


def _part_of(option: str) -> str | None:
    """``"merger"`` for ``--merger``, ``--merger.class_path`` and ``--merger.help``."""
    name = option.removeprefix("--").removesuffix(".class_path").removesuffix(".help")
    return name if option.startswith("--") and name in PARTS else None


def _resolve_value(kind: str, value: str) -> str:
    if value.startswith("{"):
        return json.dumps(_resolve_part(kind, get_loader("yaml")(value)))
    resolved = _resolve_part(kind, value)
    return resolved["class_path"] if isinstance(resolved, dict) else value
