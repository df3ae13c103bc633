"""Find components by name: entry points of installed distributions, and dotted paths.

Nothing is imported before it is asked for, so listing needs no torch, and a broken plugin harms
only whoever asks for it by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from inspect import isabstract
from typing import Any

from diffsegkit.errors import ComponentError

__all__ = [
    "GROUPS",
    "Component",
    "check",
    "find_components",
    "list_components",
    "load",
    "locate",
    "resolve",
]

GROUPS = {
    "sources": "diffsegkit.attention_sources",
    "aggregators": "diffsegkit.aggregators",
    "mergers": "diffsegkit.mergers",
    "anchors": "diffsegkit.anchors",
    "assigners": "diffsegkit.assigners",
    "namers": "diffsegkit.namers",
    "segmenters": "diffsegkit.segmenters",
    "datamodules": "diffsegkit.datamodules",
    "presets": "diffsegkit.presets",
}
"""Entry-point group of each kind of component."""

# Where the base class of each kind is, so that a class of another kind is refused by name.
_BASES = {
    "sources": "diffsegkit.interfaces:AttentionSource",
    "aggregators": "diffsegkit.interfaces:Aggregator",
    "mergers": "diffsegkit.interfaces:Merger",
    "anchors": "diffsegkit.mergers.anchors:AnchorSampler",
    "assigners": "diffsegkit.interfaces:Assigner",
    "namers": "diffsegkit.interfaces:Namer",
    "segmenters": "diffsegkit.segmenters:ImageSegmenter",
    "datamodules": "diffsegkit.data:SegmentationDataModule",
    "presets": "diffsegkit.presets:Preset",
}


@dataclass(frozen=True, order=True)
class Component:
    """A component as its distribution's metadata describes it, not imported.

    Args:
        kind: ``"sources"``, ``"aggregators"``, ``"mergers"``, ``"anchors"``, ``"assigners"``,
            ``"namers"``, ``"segmenters"``, ``"datamodules"`` or ``"presets"``.
        name: What to ask for it by.
        target: Where it is, ``"package.module:Object"``.
        distribution: The installed distribution it belongs to.
        version: Of the distribution.
        summary: Of the distribution.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    summary: str

    @property
    def dotted_path(self) -> str:
        """``package.module.Object``."""
        return self.target.replace(":", ".")


def list_components(kind: str | None = None, pattern: str = "*") -> list[str]:
    """Names of the installed components, plugins included.

    Args:
        kind: ``"sources"``, ``"aggregators"``, ``"mergers"``, ``"anchors"``, ``"assigners"``,
            ``"namers"``, ``"segmenters"``, ``"datamodules"`` or ``"presets"`` (the singular will
            do); all kinds by default.
        pattern: What the names must match, ``*`` and ``?`` being wildcards; without a wildcard,
            what they must contain. Case does not count.

    Returns:
        Sorted names.

    Raises:
        ComponentError: If the kind is unknown.

    Example:
        >>> import diffsegkit
        >>> diffsegkit.list_components("mergers", "iterative*")
        ['IterativeKLMerger']
    """
    return sorted({component.name for component in find_components(kind, pattern)})


def find_components(kind: str | None = None, pattern: str = "*") -> list[Component]:
    """Like :func:`list_components`, with what the metadata says about each.

    Args:
        kind: A kind of component, or None for all.
        pattern: What the names must match.

    Returns:
        Components, by kind and name.

    Raises:
        ComponentError: If the kind is unknown.
    """
    kinds = list(GROUPS) if kind is None else [plural(kind)]
    pattern = pattern.lower()
    if not any(wildcard in pattern for wildcard in "*?["):
        pattern = f"*{pattern}*"
    found = [
        component
        for component in _installed()
        if component.kind in kinds and fnmatchcase(component.name.lower(), pattern)
    ]
    return sorted(found, key=lambda component: (kinds.index(component.kind), component))


def plural(kind: str) -> str:
    """The kind as the registry spells it.

    Raises:
        ComponentError: If there is no such kind.
    """
    for known in GROUPS:
        if kind in (known, known.removesuffix("s")):
            return known
    raise ComponentError(
        f"There is no kind of component called {kind!r}; the kinds are {', '.join(GROUPS)}."
    )


def locate(kind: str, name: str) -> str:
    """The dotted path behind a name, without importing anything.

    Args:
        kind: A kind of component.
        name: A component's name, or a dotted path, which is given back.

    Returns:
        ``package.module.Object``.

    Raises:
        ComponentError: If the name is unknown, or two distributions have one.
    """
    kind = plural(kind)
    if "." in name or ":" in name:
        return name.replace(":", ".")
    components = find_components(kind)
    matches = [component for component in components if component.name == name]
    if not matches:
        raise ComponentError(_unknown(kind, name, [component.name for component in components]))
    if len(matches) > 1:
        owners = " and ".join(f"{match.distribution} ({match.target})" for match in matches)
        raise ComponentError(
            f"The name {name!r} is taken by two {kind}: {owners}. Uninstall one of them, or give "
            "the dotted path."
        )
    return matches[0].dotted_path


def load(kind: str, name: str) -> Any:  # noqa: ANN401
    """Import a component; :func:`resolve` without the path."""
    return resolve(kind, name)[1]


def resolve(kind: str, name: str) -> tuple[str, Any]:
    """Import a component.

    Args:
        kind: A kind of component.
        name: A component's name or dotted path.

    Returns:
        Its dotted path, and the class, or the preset.

    Raises:
        ComponentError: If it is unknown, cannot be imported, or is not of that kind.
    """
    kind = plural(kind)
    path = locate(kind, name)
    module, _, attribute = path.rpartition(".")
    remedy = "Check the path." if "." in name or ":" in name else "Mend or uninstall it."
    try:
        component = getattr(import_module(module), attribute)
    # A plugin may fail with anything at all when imported, and some call sys.exit().
    except (Exception, SystemExit) as error:
        raise ComponentError(
            f"The {kind.removesuffix('s')} {name!r} cannot be imported from {path!r}"
            f"{_owner(kind, name)}: {type(error).__name__}: {error}. {remedy}"
        ) from error
    _check_kind(kind, name, component)
    return path, component


def check(component: Component) -> str | None:
    """Import a component and say what is wrong with it.

    Args:
        component: One that :func:`find_components` gave.

    Returns:
        A sentence that names the entry point, its distribution and the error, or None.
    """
    try:
        if locate(component.kind, component.name) != component.dotted_path:
            return None
        load(component.kind, component.name)
    except ComponentError as error:
        return str(error)
    return None


def _installed() -> Iterator[Component]:
    """All components of all distributions; what cannot be read costs a warning."""
    kind_of = {group: kind for kind, group in GROUPS.items()}
    seen: set[str] = set()
    for distribution in distributions():
        label = str(getattr(distribution, "_path", distribution))
        try:
            label = distribution.name or label
            # The first on the path is the one that Python imports.
            if label.lower() in seen:
                continue
            seen.add(label.lower())
            entry_points = [ep for ep in distribution.entry_points if ep.group in kind_of]
        except Exception as error:  # noqa: BLE001 - metadata can be broken in any way
            _warn_unreadable(f"The metadata of {label!r}", error)
            continue
        for entry_point in entry_points:
            try:
                yield _component(entry_point, kind_of[entry_point.group], distribution)
            except Exception as error:  # noqa: BLE001
                _warn_unreadable(f"The entry point {entry_point.name!r} of {label!r}", error)


def _component(entry_point: EntryPoint, kind: str, distribution: Distribution) -> Component:
    return Component(
        kind=kind,
        name=entry_point.name,
        target=entry_point.value.partition("[")[0].strip(),
        distribution=distribution.name or "?",
        version=distribution.version or "?",
        summary=distribution.metadata["Summary"] or "",
    )


def _warn_unreadable(what: str, error: Exception) -> None:
    warnings.warn(
        f"{what} cannot be read and is left out: {type(error).__name__}: {error}", stacklevel=3
    )


def _unknown(kind: str, name: str, known: list[str]) -> str:
    by_lower = {other.lower(): other for other in known}
    near = [name.lower()] if name.lower() in by_lower else []
    near = near or get_close_matches(name.lower(), by_lower, cutoff=0.5)
    close = [by_lower[match] for match in near]
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    listed = ", ".join(known) or "none"
    return (
        f"There is no {kind.removesuffix('s')} called {name!r}.{hint} Installed {kind}: {listed}. "
        "For code that is not installed give a dotted path such as package.module.Class."
    )


def _owner(kind: str, name: str) -> str:
    """Which distribution an entry point belongs to, for messages."""
    for component in find_components(kind):
        if component.name == name:
            return f" (an entry point of {component.distribution} {component.version})"
    return ""


def _check_kind(kind: str, name: str, component: Any) -> None:  # noqa: ANN401
    if kind not in _BASES:
        return
    module, _, attribute = _BASES[kind].partition(":")
    base = getattr(import_module(module), attribute)
    fits = (
        isinstance(component, base)
        if kind == "presets"
        else isinstance(component, type) and issubclass(component, base)
    )
    if fits and isabstract(component):
        methods = ", ".join(sorted(component.__abstractmethods__))
        raise ComponentError(f"The class {name!r} is abstract: it does not define {methods}.")
    if not fits:
        raise ComponentError(
            f"{name!r} is not one of the {kind}: expected "
            f"{'an instance' if kind == 'presets' else 'a subclass'} of {attribute}, but got "
            f"{component!r}."
        )
