"""Help that reads as written for a person."""

import re
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Descriptions as they stand, and defaults without the types that jsonargparse adds."""

    def _get_help_string(self, action: Action) -> str:
        text = re.sub(r":\w+:`~?\.?([^`]+)`", r"\1", action.help or "").replace("``", "")
        default = action.default
        if isinstance(default, Namespace):  # a part
            default = default.class_path.rpartition(".")[2]
        if not action.option_strings or default in (None, SUPPRESS, False, [], ""):
            return text
        return f"{text} (default: {str(default).lower() if default is True else default})"


def add_debug(parser: ArgumentParser) -> None:
    """Document ``--debug``, which the entry point takes off the command line itself."""
    parser.add_argument(
        "--debug", action="store_true", default=SUPPRESS, help="Show the traceback of an error."
    )
