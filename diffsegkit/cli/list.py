"""``diffsegkit list``: what is installed, from metadata alone."""

from diffsegkit import registry
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.parsing import SentenceParser


def run(args: list[str]) -> int:
    """List components.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if ``--check`` found something broken.
    """
    options = _parser().parse_args(args)
    components = registry.find_components(options.kind, options.pattern)
    problems: dict[registry.Component, str | None] = {}
    if options.check:
        from diffsegkit.cli.check import check  # imports torch

        problems = {component: check(component) for component in components}
    if not components:
        print(f"No component matches {options.pattern!r}.")  # noqa: T201
    for line in _table(components, problems):
        print(line)  # noqa: T201
    return 1 if any(problems.values()) else 0


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="diffsegkit list",
        usage="diffsegkit list [KIND] [PATTERN] [--check]",
        description="List the installed components, plugins included, from their metadata alone.",
        epilog="Example:\n  diffsegkit list mergers '*kl*'",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help=f"One of {', '.join(registry.GROUPS)}."
    )
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="What names must match."
    )
    parser.add_argument(
        "--check", action="store_true", help="Import everything and show what is broken, and why."
    )
    add_debug(parser)
    return parser


def _table(
    components: list[registry.Component], problems: dict[registry.Component, str | None]
) -> list[str]:
    """Lines of aligned columns, a heading per kind."""
    rows = [(c.name, c.distribution, c.version, c.summary) for c in components]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines: list[str] = []
    kind = None
    for component, row in zip(components, rows, strict=True):
        if component.kind != kind:
            kind = component.kind
            lines += [*([""] if lines else []), kind]
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        status = ""
        if component in problems:
            status = "broken  " if problems[component] else "ok      "
        lines.append(f"  {status}{cells}".rstrip())
        if problems.get(component):
            lines.append(f"          {' '.join(str(problems[component]).split())}")
    return lines
