"""From names and plain data to a segmenter, with types checked by jsonargparse.

The command line and :meth:`Segmenter.from_preset` both go through here, so a name, a type or a
misspelt argument means the same in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from diffsegkit import registry
from diffsegkit.errors import ComponentError, DiffSegKitError, UsageError
from diffsegkit.images.geometry import Resize
from diffsegkit.interfaces import Aggregator, Assigner, AttentionSource, Merger
from diffsegkit.parsing import SentenceParser, did_you_mean, one_sentence, own_parameters
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
        self.default_parts: dict[str, str] = {}
        """The class of each part, of which ``--merger.help`` alone tells the options."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # noqa: ANN401
        """Parse a command line; see jsonargparse."""
        return super().parse_args(_with_paths(args or [], self.default_parts), *rest, **kwargs)


def add_segmenter_arguments(parser: ConfigurationParser, configuration: Mapping[str, Any]) -> None:
    """Give a parser the arguments of a segmenter.

    Args:
        parser: The parser to extend with ``--source``, ``--aggregator``, ``--merger``,
            ``--assigner`` (and ``--merger.thresholds`` and so on), ``--image-size``, ``--resize``
            and ``--antialias``.
        configuration: The defaults, as :func:`preset_configuration` gives them.
    """
    for kind, base in PARTS.items():
        parser.default_parts[kind] = configuration[kind]["class_path"]
        group = parser.add_argument_group(
            f"{kind} options", _describe(kind, parser.default_parts[kind])
        )
        group.add_argument(f"--{kind}", type=base, metavar="NAME", help=_HELP[kind])
    group = parser.add_argument_group("size options")
    group.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="Longer side at which the source sees a photo, rounded to what the source can take.",
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
    parser.set_defaults(dict(configuration))


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
    if not isinstance(preset, Preset):
        raise UsageError(f"Expected a preset or its name, but got {preset!r}.")
    defaults = preset_configuration(preset)
    configuration = dict(defaults)
    instances = {}
    for name, value in overrides.items():
        if name in PARTS and isinstance(value, PARTS[name]):
            instances[name] = value
        elif name in PARTS and isinstance(value, type) and issubclass(value, PARTS[name]):
            # A class from a notebook or a function has no path to be found by.
            instances[name] = value()
        elif name in PARTS:
            configuration[name] = _overridden(name, configuration[name], _plain(value))
        else:
            configuration[name] = _plain(value)
    parser = ConfigurationParser()
    add_segmenter_arguments(parser, defaults)
    return build_segmenter(parser, parser.parse_object(configuration), instances)


def check_preset(name: str) -> str | None:
    """What keeps a preset from running, short of constructing its parts.

    Args:
        name: The preset's.

    Returns:
        A sentence, or None.
    """
    try:
        configuration = preset_configuration(load_preset(name))
        parser = ConfigurationParser()
        add_segmenter_arguments(parser, configuration)
        parser.parse_object(configuration)
    except UsageError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a plugin's preset may hold anything
        return f"{type(error).__name__}: {error}"
    return None


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
        repr(segmenter)  # what torch needs of every part, a part without super().__init__() lacks
    except DiffSegKitError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        forgotten = "Module.__init__()" in str(error) or "attribute '_modules'" in str(error)
        hint = " (call super().__init__() first)" if forgotten else ""
        raise UsageError(one_sentence(str(error)) + hint) from error
    plain = json.loads(parser.dump(parsed, format="json", skip_validation=True))
    segmenter.configuration = {
        name: plain[name] if name not in instances else _describe_instance(instances[name])
        for name in (*PARTS, *OPTIONS)
    }
    return segmenter


def _describe(kind: str, class_path: str) -> str:
    """For the help: which arguments the part has."""
    part = registry.load(kind, class_path)
    names = ", ".join(f"--{kind}.{name}" for name in own_parameters(part))
    return f"{part.__name__}: {names or 'no options'}"


def _describe_instance(part: object) -> dict[str, str]:
    """For the record: an instance's arguments are not known, but what it shows of itself."""
    path = f"{type(part).__module__}.{type(part).__qualname__}"
    return {"class_path": path, "instance": repr(part)}


def _complete(kind: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
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


def _overridden(kind: str, current: dict[str, Any], value: Any) -> dict[str, Any]:  # noqa: ANN401
    """A preset's part, changed by what a caller gives for it."""
    if isinstance(value, Mapping) and "class_path" not in value:
        init_args = value.get("init_args", value)
        if not isinstance(init_args, Mapping):
            raise UsageError(
                f"Expected the arguments of the {kind} in a mapping, got {init_args!r}."
            )
        return current | {"init_args": {**current.get("init_args", {}), **init_args}}
    if isinstance(value, str | Mapping):
        return _complete(kind, value)
    raise UsageError(
        f"Expected the {kind} to be a name, a mapping of arguments, or an instance of "
        f"{PARTS[kind].__name__}, but got {value!r}."
    )


_MODE = "diffsegkit"
_NUMBERS_BY_NUMBERS = re.compile(r"\{\s*\d+:[\d.]+(?:\s*,\s*\d+:[\d.]+)*\s*\}")


def _load_with_paths(text: str) -> Any:  # noqa: ANN401
    """YAML, with the registered names of parts resolved wherever a part may stand."""
    # YAML reads the 64:2 of {64:2, 32:1} as one number in base 60.
    text = _NUMBERS_BY_NUMBERS.sub(lambda match: match[0].replace(":", ": "), text)
    return _resolve(get_loader("yaml")(text))


set_loader(_MODE, _load_with_paths, exceptions=(yaml.YAMLError,))


def _plain(value: Any) -> Any:  # noqa: ANN401
    """NumPy's numbers and arrays, and torch's, as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _resolve(value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_resolve(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _resolve_part(key, _resolve(item, depth + 1), depth) for key, item in value.items()
    }


def _resolve_part(key: str, value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    if key not in PARTS:
        return value
    name = value.get("class_path") if isinstance(value, dict) else value
    if not isinstance(name, str) or "/" in name or name.endswith((".yaml", ".json")):
        return value
    # Deep inside, an argument may be called `source` and be something else altogether.
    if depth and "." not in name and name not in registry.list_components(key):
        return value
    return _complete(key, value)


def _with_paths(args: Sequence[str], default_parts: Mapping[str, str]) -> list[str]:
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
    return path.rpartition(".")[2] if all(name in PARTS for name in path.split(".")) else None


def _resolve_value(kind: str, value: str) -> str:
    if value.startswith("{"):
        try:
            return json.dumps(_resolve_part(kind, get_loader("yaml")(value)))
        except yaml.YAMLError as error:
            raise UsageError(f"--{kind}: {value!r} is not valid YAML: {error}") from error
    resolved = _resolve_part(kind, value)
    return resolved["class_path"] if isinstance(resolved, dict) else value
