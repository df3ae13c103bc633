"""``diffsegkit new-plugin``: a package with one component, ready to be filled."""

import keyword
import re
import shlex
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import diffsegkit
from diffsegkit import registry
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.errors import UsageError
from diffsegkit.files import temporary_name, writable_folder
from diffsegkit.parsing import SentenceParser, did_you_mean

_USAGE = "diffsegkit new-plugin NAME [--kind KIND] [--out DIR]"
_EPILOG = """Writes the folder diffsegkit-NAME, a package that installs, is found by diffsegkit, and
passes its test. It has pyproject.toml with the entry point, README.md, one module with a small
component that works, and a test of it. Then change the component.

Example:
  diffsegkit new-plugin my-method --kind merger
  pip install ./diffsegkit-my-method
  diffsegkit segment photo.jpg --out segments --merger MyMethodMerger
"""


@dataclass(frozen=True)
class _Kind:
    """What is particular to a kind of component.

    Args:
        plural: As the registry has it.
        suffix: Of the class's name.
        summary: One sentence about the template's component.
        command: How it is used.
    """

    plural: str
    suffix: str
    summary: str
    command: str


_SEGMENT = "diffsegkit segment photo.jpg --out segments"
_KINDS = {
    "source": _Kind(
        "sources",
        "Source",
        "Attention between cells of like colour.",
        f"{_SEGMENT} --preset diffseg --source @name@",
    ),
    "aggregator": _Kind(
        "aggregators",
        "Aggregator",
        "Attention without its weakest entries.",
        f"{_SEGMENT} --aggregator @name@",
    ),
    "merger": _Kind(
        "mergers",
        "Merger",
        "Two proposals: what is near the mean map, and the rest.",
        f"{_SEGMENT} --merger @name@",
    ),
    "anchors": _Kind(
        "anchors",
        "Anchors",
        "Merging starts where attention is most peaked.",
        f"{_SEGMENT} --merger.anchors @name@",
    ),
    "assigner": _Kind(
        "assigners",
        "Assigner",
        "Segments with smooth edges.",
        f"{_SEGMENT} --assigner @name@",
    ),
    "namer": _Kind(
        "namers",
        "Namer",
        "Names for segments by their colour.",
        f"{_SEGMENT} --namer @name@",
    ),
    "segmenter": _Kind(
        "segmenters",
        "Segmenter",
        "Two segments, dark and bright.",
        f"{_SEGMENT} --segmenter @name@",
    ),
    "datamodule": _Kind(
        "datamodules",
        "Data",
        "Photos and label PNGs of the same names, in folders per split.",
        "diffsegkit data check @name@ --root DIR",
    ),
    "preset": _Kind(
        "presets",
        "",
        "A complete configuration: few large segments.",
        f"{_SEGMENT} --preset @name@",
    ),
}


def run(args: list[str]) -> int:
    """Write a plugin.

    Args:
        args: The command's own arguments.

    Returns:
        0.

    Raises:
        UsageError: If the name or the kind will not do, or a folder is taken or cannot be written.
    """
    options = _parser().parse_args(args)
    if not options.name:
        raise UsageError(f"Expected a name for the plugin: {_USAGE}.")
    if options.kind not in _KINDS:
        raise UsageError(
            f"Expected --kind to be one of {', '.join(_KINDS)}, but got {options.kind!r}"
            f"{did_you_mean(str(options.kind), list(_KINDS))}"
        )
    values = _values(options.name, options.kind)
    folder = Path(options.out).expanduser() / values["distribution"]
    _check_free(folder, values, options.kind)
    writable_folder(options.out, "--out")
    write_plugin(folder, values, options.kind)
    component = folder / values["package"] / f"{values['module']}.py"
    # Without "./" pip might take a folder for the name of a package.
    path = str(folder) if folder.is_absolute() else f"./{folder}"
    for line in (
        f"{folder} is a package with {values['name']}, one of the {values['plural']}. Try it:",
        f"  pip install -e {shlex.quote(f'{path}[test]')}",
        f"  diffsegkit list {values['plural']}",
        f"  python -m pytest {shlex.quote(str(folder))}",
        f"Then write your own in {component}.",
    ):
        print(line)  # noqa: T201
    return 0


def write_plugin(folder: Path, values: dict[str, str], kind: str) -> None:
    """Write the files of a plugin, all or none.

    Args:
        folder: Where to; it is not there, or empty.
        values: What the placeholders stand for.
        kind: Of the component.

    Raises:
        OSError: If it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary_name(folder)
    try:
        for name, text in plugin_files(values, kind).items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()  # it is empty, or this fails
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def plugin_files(values: dict[str, str], kind: str) -> dict[str, str]:
    """The files of a plugin: their names in its folder, and their texts.

    Args:
        values: What the placeholders stand for.
        kind: Of the component.
    """
    package, module = values["package"], values["module"]
    sources = {
        "pyproject.toml": "common/pyproject.toml.txt",
        "README.md": "common/README.md.txt",
        f"{package}/__init__.py": "common/__init__.py.txt",
        f"{package}/{module}.py": f"kinds/{kind}.py.txt",
        f"tests/test_{module}.py": f"kinds/test_{kind}.py.txt",
    }
    template = files("diffsegkit.plugin_template")
    texts = {}
    for name, source in sources.items():
        text = template.joinpath(*source.split("/")).read_text(encoding="utf-8")
        texts[name] = re.sub(r"@(\w+)@", lambda match: values[match[1]], text)
    return texts


def _values(name: str, kind: str) -> dict[str, str]:
    """What the placeholders stand for.

    Raises:
        UsageError: If the name cannot be that of a distribution and of a package.
    """
    short = name.lower().removeprefix("diffsegkit-").removeprefix("diffsegkit_")
    # PEP 503's names, of which a package's name and a class's can be made.
    if not re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?=[a-z0-9]))*", short):
        raise UsageError(
            "Expected NAME to be letters, digits and dashes, beginning with a letter, such as "
            f"my-method, but got {name!r}."
        )
    words = re.split(r"[-_.]", short)
    module = "_".join(words)
    if keyword.iskeyword(module):
        raise UsageError(f"Expected NAME to be no word of Python's, but got {name!r}.")
    about = _KINDS[kind]
    camel = "".join(word.capitalize() for word in words)
    suffix = "" if camel.endswith(about.suffix) else about.suffix
    is_preset = kind == "preset"
    shown = "-".join(words) if is_preset else camel + suffix
    major, minor = version("diffsegkit").split(".")[:2]
    return {
        "distribution": "diffsegkit-" + "-".join(words),
        "package": f"diffsegkit_{module}",
        "module": module,
        "object": module.upper() if is_preset else shown,
        "name": shown,
        "plural": about.plural,
        "group": registry.GROUPS[about.plural],
        "summary": about.summary,
        "command": about.command.replace("@name@", shown),
        "version": f"{major}.{minor}",
        "next_version": f"{major}.{int(minor) + 1}",
    }


def _check_free(folder: Path, values: dict[str, str], kind: str) -> None:
    """Raise unless folder, distribution, package and component are new.

    Raises:
        UsageError: If one of them is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"Expected {str(folder)!r} not to exist, or to be an empty folder; choose another NAME "
            "or --out."
        )
    # A class called Merger would hide the one that it is derived from.
    if values["object"] in diffsegkit.__all__ or values["object"] in _words_of(kind):
        raise UsageError(
            f"The {kind} would be called {values['object']!r}, as a class of diffsegkit's own is; "
            "choose another NAME."
        )
    for component in registry.find_components(values["plural"]):
        if component.name.lower() == values["name"].lower():
            raise UsageError(
                f"There is a {kind} called {component.name!r} already, of "
                f"{component.distribution}; choose another NAME."
            )
    try:
        distribution(values["distribution"])
    except PackageNotFoundError:
        if find_spec(values["package"]) is None:
            return
    raise UsageError(
        f"{values['distribution']} is installed already; choose another NAME, or uninstall it."
    )


def _words_of(kind: str) -> set[str]:
    """All words of a kind's component, before its placeholders are filled."""
    template = files("diffsegkit.plugin_template").joinpath("kinds", f"{kind}.py.txt")
    return set(re.findall(r"\w+", template.read_text(encoding="utf-8")))


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="diffsegkit new-plugin",
        usage=_USAGE,
        description="Write a package with one component, which diffsegkit finds once installed.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="Such as my-method.")
    parser.add_argument(
        "--kind",
        type=str,
        default="merger",
        metavar="KIND",
        help=f"One of {', '.join(_KINDS)}.",
    )
    parser.add_argument(
        "--out", type=str, default=".", metavar="DIR", help="Where the plugin's folder goes."
    )
    add_debug(parser)
    return parser
