"""``diffsegkit download``: the weights of presets, before they are needed."""

import sys
from collections.abc import Sequence

from diffsegkit.cli.arguments import named_preset
from diffsegkit.cli.explain import explain
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.cli.needed import needed_files
from diffsegkit.configuration import ConfigurationParser
from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.interfaces import AttentionSource
from diffsegkit.part_names import complete_part
from diffsegkit.presets.preset import Part
from diffsegkit.weights import ModelFiles, download_model, model_state
from diffsegkit.weights.size import readable_size

_USAGE = "diffsegkit download PRESET... [--source.model MODEL] [options]"
_FLAGS = ("-h", "--help", "--debug")
_EPILOG = """Only what the preset's source loads is fetched, into the cache that diffusers and
transformers use too; what was interrupted goes on where it stopped. A model whose licence must be
accepted needs `hf auth login`, or a token in HF_TOKEN. HF_HOME moves the cache.

Examples:
  diffsegkit download diffseg-sd14
  diffsegkit download diffseg-sd14 --source.model owner/finetuned --source.variant fp16
  diffsegkit download diffseg-sd14 --source.model FOLDER     (checks a local copy)
The options of a preset's source: diffsegkit download diffseg-sd14 --source.help
What is here already: diffsegkit doctor
"""


def run(args: list[str]) -> int:
    """Fetch the weights of presets.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 130 if it was interrupted.

    Raises:
        UsageError: If a preset is unknown, or a model's files are not what is needed.
        DownloadError: If something cannot be fetched.
    """
    named = _named(args)
    if not named:
        _parser([], None).parse_args(args)  # --help
        raise UsageError(f"Expected at least one preset: {_USAGE}.")
    wanted = {name: _wanted(name, named, args) for name in named}
    failures: list[DiffSegKitError] = []
    for name, files in wanted.items():
        try:
            print(f"{name}: {_fetch(files)}")  # noqa: T201
        except KeyboardInterrupt:
            print(  # noqa: T201
                "diffsegkit: interrupted; the same command goes on where it stopped",
                file=sys.stderr,
            )
            return 130
        except DiffSegKitError as error:
            failures.append(error)
    for failure in failures[:-1]:
        print(f"diffsegkit: failed: {explain(failure)}", file=sys.stderr)  # noqa: T201
    if failures:
        raise failures[-1]
    return 0


def _named(args: Sequence[str]) -> list[str]:
    """The presets, which must be known before parsing: their sources are the defaults."""
    named = []
    value_follows = False
    for arg in args:
        if arg.startswith("-"):
            value_follows = "=" not in arg and arg not in _FLAGS
        else:
            named += [] if value_follows else [arg]
            value_follows = False
    return list(dict.fromkeys(named))


def _wanted(name: str, named: list[str], args: Sequence[str]) -> ModelFiles | None:
    """What a preset needs, with what the command line changes of its source."""
    given = [arg.partition("=")[0] for arg in args if arg.startswith("--source")]
    if given and len(named) > 1:
        raise UsageError(f"{given[0]} is for one preset, but got {', '.join(named)}.")
    preset = named_preset(name)
    source = None if preset.source is None else complete_part("source", preset.source)
    parsed = _parser(named, source).parse_args(args)
    if parsed.source is None:
        raise UsageError(
            f"The preset {name!r} leaves the source open: give --source NAME; "
            "`diffsegkit list sources` shows what there is."
        )
    return needed_files(parsed.source.as_dict())


def _parser(named: list[str], source: Part | None) -> ConfigurationParser:
    parser = ConfigurationParser(
        prog=" ".join(["diffsegkit download", *named]),
        usage=_USAGE,
        description="Fetch the weights that presets need, and check them.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "presets",
        nargs="*",
        type=str,
        default=[],
        metavar="PRESET",
        help="Names, or dotted paths; `diffsegkit list presets`.",
    )
    add_debug(parser)
    group = parser.add_argument_group("source options")
    group.add_argument(
        "--source",
        type=AttentionSource | None if source is None else AttentionSource,
        metavar="NAME",
        help="The preset's own by default; `diffsegkit list sources`.",
    )
    if source is not None:
        parser.default_parts["source"] = source["class_path"]
        parser.set_defaults({"source": dict(source)})
    return parser


def _fetch(files: ModelFiles | None) -> str:
    """Fetch, and say where it is."""
    if files is None:
        return "needs no weights"
    before = model_state(files)
    state = download_model(files)
    done = "complete already" if before.complete else "fetched"
    number = f"{len(state.names)} file{'s' * (len(state.names) != 1)}"
    return f"{done}: {number}, {readable_size(state.size)}, in {state.folder}"
