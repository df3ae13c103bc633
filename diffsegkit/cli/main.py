"""``diffsegkit``: choose the command, run it, and turn errors into sentences and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from diffsegkit.cli.explain import explain
from diffsegkit.cli.help import HelpFormatter
from diffsegkit.errors import UsageError
from diffsegkit.parsing import SentenceParser, did_you_mean

COMMANDS = {
    "segment": "Segment photos: label map, overlay and JSON for each.",
    "test": "Score a method on a data set by a named protocol.",
    "predict": "Write the label maps of a data set.",
    "sweep": "Score many variants on the same attention.",
    "data": "Check the files of a data set.",
    "download": "Fetch the weights that presets need.",
    "bench": "Measure speed and memory beside plain PyTorch.",
    "new-plugin": "Write a package with a component of your own.",
    "list": "List the installed components, plugins included.",
    "doctor": "Show versions, devices, and which presets can run here.",
}
"""Each command is the module of its name under ``diffsegkit.cli``, imported when it is called."""

_EPILOG = """Run 'diffsegkit COMMAND --help' for the options of a command.

Examples:
  diffsegkit segment photo.jpg --out segments
  diffsegkit list mergers
  diffsegkit doctor
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        0 for success, 1 for failure, 2 for wrong usage, 130 when interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    _prepare_process(debug)
    try:
        return _run(args)
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (`diffsegkit list | head`); keep Python's exit quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost place: every error ends here
        if debug:
            traceback.print_exc()
        _say(f"error: {explain(error)}")
        return 2 if isinstance(error, UsageError) else 1


def _run(args: list[str]) -> int:
    command = args[0] if args else None
    if command is not None and not command.startswith("-") and command not in COMMANDS:
        raise UsageError(
            f"There is no command {command!r}{did_you_mean(command, list(COMMANDS))} "
            f"The commands are {', '.join(COMMANDS)}."
        )
    if command in COMMANDS:
        module = import_module(f"diffsegkit.cli.{command.replace('-', '_')}")
        status: int = module.run(args[1:])
        return status
    parser = SentenceParser(
        prog="diffsegkit",
        usage="diffsegkit COMMAND [options]",
        version=version("diffsegkit"),
        description="Segment any photo without labels, prompts or training.\n\nCommands:\n"
        + "\n".join(f"  {name:12}{summary}" for name, summary in COMMANDS.items()),
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    if not args:
        parser.print_help()
        return 2
    parser.parse_args(args)
    return 0


def _prepare_process(debug: bool) -> None:
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("diffsegkit").setLevel(logging.DEBUG if debug else logging.INFO)
    # That a CPU has no Triton is as it should be; what a GPU lacks is a warning.
    logging.getLogger("diffsegkit.kernels").setLevel(logging.DEBUG if debug else logging.WARNING)
    # Uninstalled code in the working directory can be named by its dotted path; last, so that
    # it never hides an installed module.
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
    for stream in (sys.stdout, sys.stderr):
        # A file name need not be text.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"note: {message}")


def _say(text: str) -> None:
    print(f"diffsegkit: {text}", file=sys.stderr)  # noqa: T201
