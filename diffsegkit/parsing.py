"""A command-line parser that says in one sentence what is wrong."""

import inspect
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from diffsegkit.errors import UsageError


class SentenceParser(ArgumentParser):
    """jsonargparse's parser, raising :class:`UsageError` where it would print a usage text."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the user did wrong.

        Raises:
            UsageError: Always.
        """
        raise UsageError(one_sentence(message)) from ex


def one_sentence(message: str) -> str:
    """The nested report of jsonargparse in one sentence: where, what was given and expected."""
    if "\n" not in message.strip():
        return message.strip().removeprefix("error: ")
    class_paths = re.findall(r"Problem with given class_path '([^']+)'", message)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    where = "--" + ".".join(keys)
    owner = _import(class_paths[-1]) if class_paths else None
    refused = re.search(r"Option '([^']+)' is not accepted", message)
    if refused and owner:
        parameters = list(inspect.signature(owner).parameters)
        return (
            f"{owner.__name__} has no argument {refused[1]!r}"
            f"{did_you_mean(refused[1], parameters)} Its arguments are {', '.join(parameters)}."
        )
    no_class = re.search(r"Expected a dot import path string: (.*)", message)
    if no_class:
        return (
            f"{where}: there is no class called {no_class[1]!r}; give a dotted path such as "
            "package.module.Class."
        )
    given = re.search(r"(?:Given value|Got value): (.*)", message)
    if given and owner and keys and keys[-1] in inspect.signature(owner).parameters:
        annotation = inspect.signature(owner).parameters[keys[-1]].annotation
        return (
            f"{where}: expected {_annotation(annotation)} for {owner.__name__}, but got {given[1]}."
        )
    lines = [line.strip(" -") for line in message.splitlines()]
    return f"{where}: {lines[-1]}" if keys else " ".join(line for line in lines if line)


def _import(path: str) -> Callable[..., Any] | None:
    module, _, name = path.rpartition(".")
    found: Callable[..., Any] | None = getattr(import_module(module), name, None)
    return found


def _annotation(annotation: Any) -> str:  # noqa: ANN401
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", inspect.formatannotation(annotation))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence: the closest of the known names, if one is close."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."
