"""``diffsegkit data check``: is a data set complete, and can it be read?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffsegkit import registry
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.errors import UsageError
from diffsegkit.parsing import SentenceParser, did_you_mean

if TYPE_CHECKING:  # importing it takes seconds, which --help need not
    from diffsegkit.data import SegmentationDataModule

_USAGE = "diffsegkit data check NAME --root DIR [options]"
_MANY = 50  # from so many images on, a progress bar
_EPILOG = """The options are the arguments of the data set's class:
  diffsegkit data check PascalVOC --help

Examples:
  diffsegkit data check PascalVOC --root data
  diffsegkit data check COCOStuff27 --root data/coco --curated false
  diffsegkit data check Folder --images photos --labels labels --mapping classes.yaml
What there is: diffsegkit list datamodules
"""


def run(args: list[str]) -> int:
    """Check a data set.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if something is wrong.
    """
    if (
        not args
        or args[0] in ("-h", "--help")
        or args[:2] in (["check", "-h"], ["check", "--help"])
    ):
        _overview().print_help()
        return 0 if args else 2
    action, *rest = args
    if action != "check":
        raise UsageError(f"There is no 'data {action}'{did_you_mean(action, ['check'])} {_USAGE}.")
    if not rest or rest[0].startswith("-"):
        raise UsageError(f"Expected the name of a data set: {_USAGE}.")
    name, *options = rest
    return _check(_data_module(name, options))


def _overview() -> SentenceParser:
    parser = SentenceParser(
        prog="diffsegkit data",
        usage=_USAGE,
        description="Look at every file of a data set: are all there, whole, of one size and with "
        "known labels?",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_debug(parser)
    return parser


def _data_module(name: str, options: Sequence[str]) -> SegmentationDataModule:
    """The data module that the command line describes."""
    _, factory = registry.resolve("datamodules", name)
    parser = SentenceParser(
        prog=f"diffsegkit data check {name}",
        usage=f"diffsegkit data check {name} [options]",
        description=f"Check the files of {name}.",
        formatter_class=HelpFormatter,
    )
    parser.add_class_arguments(factory)
    add_debug(parser)
    try:
        arguments = parser.parse_args(list(options)).as_dict()
    except UsageError as error:
        if missing := re.search(r"arguments are required: (\w+)", str(error)):
            raise UsageError(
                f"{name} needs --{missing[1]}; 'diffsegkit data check {name} --help' describes it."
            ) from error
        raise
    arguments.pop("debug", None)
    module: SegmentationDataModule = factory(**arguments)
    return module


def _check(module: SegmentationDataModule) -> int:
    with _progress() as report:
        problems = module.check(progress=report)
    for problem in problems:
        print(problem)  # noqa: T201
    number = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "no problem"
    print(f"{module.name}, split {module.split!r}: {report.images} images, {number}")  # noqa: T201
    return 1 if problems else 0


class _Report:
    """How far a check is; a bar is drawn where there is much to do."""

    def __init__(self, bar: Progress) -> None:
        self.images = 0
        self._bar = bar
        self._task = bar.add_task("", visible=False)

    def __call__(self, done: int, total: int) -> None:
        self.images = total
        self._bar.update(self._task, completed=done, total=total, visible=total >= _MANY)


@contextmanager
def _progress() -> Iterator[_Report]:
    console = Console(stderr=True)
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Without a terminal there is nobody to watch a bar, and rich would print an empty line.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield _Report(bar)
