"""A command-line parser that says in one sentence what is wrong."""

import inspect
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from diffsegkit.errors import UsageError


class SentenceParser(ArgumentParser):
    """jsonargparse's parser, raising :class:`UsageError` where it would print a usage text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # A misspelt option must not pass for the abbreviation of another.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the user did wrong.

        Raises:
            UsageError: Always, but for the parsers that jsonargparse nests in this one: their
                reports travel up to it as they are.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        unknown = re.match(r"unrecognized arguments: --([\w.-]+)", message) or re.match(
            r"Option '([\w.-]+)' is not accepted$", message
        )
        if unknown:
            option = f"--{unknown[1]}"
            known = list(self._option_string_actions)
            first, dot, rest = option.partition(".")
            near = get_close_matches(first, [each for each in known if "." not in each], n=1)
            whole = f"{near[0]}{dot}{rest}" if near else option
            hint = did_you_mean(option, [*known, whole] if near and dot else known, cutoff=0.7)
            raise UsageError(
                f"There is no option {option}{hint} '{self.prog} --help' lists them."
            ) from ex
        if left_over := re.match(r"unrecognized arguments: (.*)", message):
            raise UsageError(
                f"There is no use for {left_over[1]!r}; a list is written in quotes, as "
                '"[0.2, 0.3]", and a file whose name begins with a dash as ./-name.'
            ) from ex
        message = re.sub(
            r"^argument (--\S+): expected one argument$", r"\1: expected a value.", message
        )
        raise UsageError(one_sentence(message)) from ex


def one_sentence(message: str) -> str:
    """The nested report of jsonargparse in one sentence: where, what was given and expected.

    Args:
        message: Such as ``Parser key "merger": Problem with given class_path ...: ...``.

    Returns:
        Such as ``--merger.refine: expected bool for IterativeKLMerger, but got 'maybe'.``
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    class_paths = re.findall(r"Problem with given class_path '([^']+)'", message)
    owner = _import(class_paths[-1]) if class_paths else None
    parameters = own_parameters(owner) if owner else {}
    if owner and (refused := re.search(r"Option '([^']+)' is not accepted", message)):
        return (
            f"{owner.__name__} has no argument {refused[1]!r}"
            f"{did_you_mean(refused[1], list(parameters))} Its arguments are "
            f"{', '.join(parameters) or 'none'}."
        )
    # Our own options have dashes; Lightning's one at this level has not.
    only = keys[0] if keys[:1] == ["seed_everything"] else "".join(keys[:1]).replace("_", "-")
    where = "--" + (only if len(keys) == 1 else ".".join(keys))
    if owner and (needed := re.search(r"following arguments are required: (.*)", message)):
        options = ", ".join(f"{where}.{name.strip()}" for name in needed[1].split(","))
        return f"{where}: {owner.__name__} needs {options}."
    if wrong := re.search(r"Not a valid subclass of (\w+)\. Got value: (.*)", message):
        return (
            f"{where}: expected the name or dotted path of a {wrong[1]}, or a mapping with "
            f"class_path and init_args, but got {wrong[2]!r}."
        )
    if odd := re.search(r"Unexpected import path format: (.*)", message):
        return f"{where}: expected a dotted path such as package.module.Class, but got {odd[1]!r}."
    if no_class := re.search(r"Expected a dot import path string: (.*)", message):
        return (
            f"{where}: there is no class called {no_class[1]!r}; give a dotted path such as "
            "package.module.Class."
        )
    union = re.search(r"any of the Union subtypes\s+Subtypes: \[(.*)\]\n", message)
    if union and not owner:
        got = re.findall(r"Given value: (.*)", message)
        expected = readable_type(union[1].replace(", <class 'NoneType'>", ""))
        return f"{where}: expected {expected}, but got {(got or ['?'])[-1]!r}."
    values: list[str] = re.findall(r"(?:Given value|Got value): (.*)", message)
    if values:
        # The last is the outermost: what the user wrote.
        given = re.sub(r"NestedArg\(key='(.*)', val='(.*)'\)", r"\1=\2", values[-1])
        if owner and keys and keys[-1] in parameters:
            expected = readable_type(parameters[keys[-1]].annotation)
            return f"{where}: expected {expected} for {owner.__name__}, but got {given!r}."
        if simple := re.search(r"Expected a (.*?)\. Got value", message):
            expected = readable_type(simple[1])
            if expected.endswith("Sequence"):
                expected = 'a list, such as "[A, B]"'
            return f"{where}: expected {expected}, but got {given!r}."
    text = " ".join(re.sub(r'Parser key "[^"]+":', "", message).split())
    return f"{where}: {text}" if keys else text


def own_parameters(owner: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a class takes by name; not the ``*args, **kwargs`` that every module inherits.

    Example:
        >>> from diffsegkit.mergers import RandomAnchors
        >>> list(own_parameters(RandomAnchors))
        ['seed']
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(owner).parameters
    return {name: each for name, each in parameters.items() if each.kind not in variadic}


def did_you_mean(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """The end of a sentence: the closest of the known names, if one is close.

    Example:
        >>> "There is no 'threshold'" + did_you_mean("threshold", ["thresholds", "anchors"])
        "There is no 'threshold'; did you mean 'thresholds'?"
    """
    close = get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else "."


def _import(path: str) -> Callable[..., Any] | None:
    module, _, name = path.rpartition(".")
    found: Callable[..., Any] | None = getattr(import_module(module), name, None)
    return found


def readable_type(annotation: Any) -> str:  # noqa: ANN401
    """A type as a person would write it.

    Example:
        >>> from typing import Literal
        >>> readable_type(Literal["a", "b"] | None)
        "'a' | 'b' | None"
    """
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(readable_type, get_args(annotation)))
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    text = re.sub(r"<class '([^']+)'>|\b(?:typing|collections\.abc)\.", r"\1", str(annotation))
    return re.sub(r"Literal\[([^\]]*)\]", lambda match: match[1].replace(", ", " | "), text)
