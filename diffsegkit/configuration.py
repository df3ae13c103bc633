"""From names and plain data to a segmenter, with types checked by jsonargparse.

The command line and :meth:`Segmenter.from_preset` both go through here, so a name, a type or a
misspelt argument means the same in both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

from diffsegkit import registry
from diffsegkit.errors import ComponentError, DiffSegKitError, UsageError
from diffsegkit.images.geometry import Resize
from diffsegkit.interfaces.parts import ALL_PARTS, OPTIONAL_PARTS, PARTS
from diffsegkit.parsing import SentenceParser, did_you_mean, one_sentence, own_parameters
from diffsegkit.part_names import MODE, complete_part, with_paths
from diffsegkit.presets import Preset
from diffsegkit.segmenter import Segmenter
from diffsegkit.segmenters import ImageSegmenter

OPTIONS = ("image_size", "resize", "antialias")
"""What a preset sets beside the parts."""

CACHE = "cache"
"""The option that keeps the attention of whatever source it is on disk."""

_HELP = {
    "source": "Where attention comes from; `diffsegkit list sources`.",
    "aggregator": "How attention of several grids becomes one; `diffsegkit list aggregators`.",
    "merger": "How maps become proposals; `diffsegkit list mergers`.",
    "assigner": "How proposals become pixels; `diffsegkit list assigners`.",
    "namer": "What names segments, if anything; those of one name become one, also in what is "
    "scored; `diffsegkit list namers`.",
}


class ConfigurationParser(SentenceParser):
    """A parser in which parts may be given by their registered names, in YAML too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"parser_mode": MODE, **kwargs})
        self.default_parts: dict[str, str] = {}
        """The class of each part, of which ``--merger.help`` alone tells the options."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # noqa: ANN401
        """Parse a command line; see jsonargparse."""
        return super().parse_args(with_paths(args or [], self.default_parts), *rest, **kwargs)


def add_segmenter_arguments(parser: ConfigurationParser, configuration: Mapping[str, Any]) -> None:
    """Give a parser the arguments of a segmenter.

    Args:
        parser: The parser to extend with ``--source``, ``--aggregator``, ``--merger``,
            ``--assigner``, ``--namer`` (and ``--merger.thresholds`` and so on), ``--cache``,
            ``--image-size``, ``--resize`` and ``--antialias``, and ``--segmenter`` for a whole
            method instead.
        configuration: The defaults, as :func:`preset_configuration` gives them.
    """
    for kind, base in PARTS.items():
        description, accepted = "Required: the preset leaves it open.", base | None
        if kind in configuration:
            parser.default_parts[kind] = configuration[kind]["class_path"]
            description, accepted = _describe(kind, parser.default_parts[kind]), base
        group = parser.add_argument_group(f"{kind} options", description)
        group.add_argument(f"--{kind}", type=accepted, metavar="NAME", help=_HELP[kind])
        if kind == "source":
            group.add_argument(
                f"--{CACHE}",
                type=str | None,
                metavar="DIR",
                help="Keep attention on disk and take it from there: the source in a CachedSource.",
            )
    for kind, base in OPTIONAL_PARTS.items():
        description = "Not used by this preset."
        if configuration.get(kind) is not None:
            parser.default_parts[kind] = configuration[kind]["class_path"]
            description = _describe(kind, parser.default_parts[kind])
        group = parser.add_argument_group(f"{kind} options", description)
        group.add_argument(f"--{kind}", type=base | None, metavar="NAME", help=_HELP[kind])
    group = parser.add_argument_group("segmenter options", "A whole method in place of the parts.")
    group.add_argument(
        "--segmenter",
        type=ImageSegmenter | None,
        metavar="NAME",
        help="A method without attention; `diffsegkit list segmenters`.",
    )
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
        ``{"source": {"class_path": ..., "init_args": {...}}, ..., "image_size": ...}``, without a
        source if the preset leaves it open.

    Raises:
        ComponentError: If a part is unknown, cannot be imported, or needs a missing package.
    """
    missing = preset.missing()
    if missing:
        remedy = f"pip install '{preset.extra}'" if preset.extra else "install them"
        raise ComponentError(f"This preset needs {' and '.join(missing)}: {remedy}.")
    given = {kind: getattr(preset, kind) for kind in ALL_PARTS}
    parts = {kind: complete_part(kind, part) for kind, part in given.items() if part is not None}
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
    if isinstance(preset, str):
        preset = load_preset(preset)
    if not isinstance(preset, Preset):
        raise UsageError(f"Expected a preset or its name, but got {preset!r}.")
    return segmenter_from_configuration(preset_configuration(preset), overrides)


def segmenter_from_configuration(
    defaults: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Segmenter:
    """Build a segmenter from plain data.

    Args:
        defaults: As :func:`preset_configuration` gives them.
        overrides: As :meth:`Segmenter.from_preset` takes them.

    Returns:
        The segmenter.

    Raises:
        UsageError: If something is unknown or has a wrong type.
    """
    known = [*ALL_PARTS, *OPTIONS]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise UsageError(
            f"There is no {unknown[0]!r} to override{did_you_mean(unknown[0], known)} The "
            f"overrides are {', '.join(known)}."
        )
    configuration = dict(defaults)
    instances = {}
    for name, value in overrides.items():
        if name in ALL_PARTS and isinstance(value, ALL_PARTS[name]):
            instances[name] = value
        elif name in ALL_PARTS and isinstance(value, type) and issubclass(value, ALL_PARTS[name]):
            # A class from a notebook or a function has no path to be found by.
            instances[name] = value()
        elif name in OPTIONAL_PARTS and value is None:
            configuration[name] = None
        elif name in ALL_PARTS:
            configuration[name] = _overridden(name, configuration.get(name) or {}, _plain(value))
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


def build_method(parser: ArgumentParser, parsed: Namespace) -> Segmenter | ImageSegmenter:
    """Construct what a parsed configuration describes: a whole method if it names one, or parts.

    Args:
        parser: The parser that parsed it.
        parsed: What it gave; what has nothing to do with segmenters is not looked at.

    Returns:
        A segmenter that carries its resolved configuration.

    Raises:
        UsageError: If an argument is refused, or the source is open.
    """
    if parsed.segmenter is None:
        return build_segmenter(parser, parsed)
    return _build_whole_method(parser, parsed)


def whole_method_from_configuration(segmenter: str | Mapping[str, Any]) -> ImageSegmenter:
    """Build a method without parts from plain data.

    Args:
        segmenter: Its name or dotted path, or ``{"class_path": ..., "init_args": {...}}``.

    Returns:
        A method that carries its resolved configuration.

    Raises:
        UsageError: If something is unknown or has a wrong type.
    """
    parser = ConfigurationParser()
    parser.add_argument("--segmenter", type=ImageSegmenter)
    part = complete_part("segmenter", _plain(segmenter))
    return _build_whole_method(parser, parser.parse_object({"segmenter": part}))


def _build_whole_method(parser: ArgumentParser, parsed: Namespace) -> ImageSegmenter:
    with _refusals_as_usage_errors():
        method: ImageSegmenter = _instantiate("segmenter", ImageSegmenter, parsed)
        repr(method)
    method.configuration = {"segmenter": _as_plain(parser, parsed)["segmenter"]}
    return method


def build_segmenter(
    parser: ArgumentParser, parsed: Namespace, instances: Mapping[str, Any] | None = None
) -> Segmenter:
    """Construct the parts of a parsed configuration.

    Args:
        parser: The parser that parsed it.
        parsed: What it gave.
        instances: Parts that exist already and take the place of the configuration's; they are
            taken as they are, not cached.

    Returns:
        A segmenter that carries its resolved configuration.

    Raises:
        UsageError: If a part refuses its arguments, or the source is open.
    """
    instances = instances or {}
    wanted = [kind for kind in PARTS if kind not in instances]
    for kind in wanted:
        if parsed[kind] is None:
            raise UsageError(
                f"Expected a {kind}, which this preset leaves open: give --{kind} NAME (or dotted "
                f"path), or from Python {kind}=...; `diffsegkit list {kind}s` shows what there is."
            )
    if parsed[CACHE] is not None and "source" not in instances:
        parsed = _with_cache(parsed)
    optional = [kind for kind in OPTIONAL_PARTS if kind not in instances and parsed[kind]]
    used = [kind for kind in ALL_PARTS if kind in (*instances, *wanted, *optional)]
    with _refusals_as_usage_errors():
        built = parser.instantiate(only(parsed, [*wanted, *OPTIONS]))
        for kind in optional:
            built[kind] = _instantiate(kind, OPTIONAL_PARTS[kind], parsed)
        parts = {kind: instances[kind] if kind in instances else built[kind] for kind in used}
        options = {option: built[option] for option in OPTIONS}
        segmenter = Segmenter(**parts, **options)
        repr(segmenter)  # what torch needs of every part, a part without super().__init__() lacks
    plain = _as_plain(parser, parsed)
    segmenter.configuration = {
        name: plain[name] if name not in instances else _describe_instance(instances[name])
        for name in (*used, *OPTIONS)
    }
    return segmenter


def _instantiate(name: str, base: type, parsed: Namespace) -> Any:  # noqa: ANN401
    """Construct what an option of the type ``base | None`` describes.

    By a parser that expects the class alone: of a constructor that fails in such an option
    jsonargparse says no more than that nothing fits.
    """
    parser = ConfigurationParser()
    parser.add_argument(f"--{name}", type=base)
    return parser.instantiate(parser.parse_object({name: parsed[name].as_dict()}))[name]


def only(parsed: Namespace, keys: Sequence[str]) -> Namespace:
    """A part of what was parsed, so that nothing else is constructed.

    Args:
        parsed: What a parser gave.
        keys: At the top level.
    """
    part = parsed.clone()
    for key in vars(parsed).keys() - set(keys):
        del part[key]
    return part


def _with_cache(parsed: Namespace) -> Namespace:
    """The same with the source in a :class:`~diffsegkit.sources.CachedSource`.

    Only when it is built, so that the source's own arguments can be changed until then.
    """
    wrapped = {
        "class_path": "diffsegkit.sources.CachedSource",
        "init_args": {"source": parsed.source.as_dict(), "dir": parsed[CACHE]},
    }
    parser = ConfigurationParser()
    parser.add_argument("--source", type=PARTS["source"])
    cached = parsed.clone()
    cached.source = parser.parse_object({"source": wrapped}).source  # with its defaults
    return cached


def _as_plain(parser: ArgumentParser, parsed: Namespace) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(parser.dump(parsed, format="json", skip_validation=True))
    return plain


@contextmanager
def _refusals_as_usage_errors() -> Iterator[None]:
    """What a constructor raises about its arguments, as something the user can put right."""
    try:
        yield
    except DiffSegKitError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        forgotten = "Module.__init__()" in str(error) or "attribute '_modules'" in str(error)
        hint = " (call super().__init__() first)" if forgotten else ""
        raise UsageError(one_sentence(str(error)) + hint) from error


def _describe(kind: str, class_path: str) -> str:
    """For the help: which arguments the part has."""
    part = registry.load(kind, class_path)
    names = ", ".join(f"--{kind}.{name}" for name in own_parameters(part))
    return f"{part.__name__}: {names or 'no options'}"


def _describe_instance(part: object) -> dict[str, str]:
    """For the record: an instance's arguments are not known, but what it shows of itself."""
    path = f"{type(part).__module__}.{type(part).__qualname__}"
    return {"class_path": path, "instance": repr(part)}


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
        return complete_part(kind, value)
    raise UsageError(
        f"Expected the {kind} to be a name, a mapping of arguments, or an instance of "
        f"{ALL_PARTS[kind].__name__}, but got {value!r}."
    )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """NumPy's numbers and arrays, and torch's, as Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
