"""``diffsegkit segment``: photos in, label maps, overlays and JSON out."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import torch
import yaml

from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.cli.job import Job
from diffsegkit.cli.photos import check_outputs, find_photos
from diffsegkit.configuration import (
    ConfigurationParser,
    add_segmenter_arguments,
    build_segmenter,
    load_preset,
    preset_configuration,
)
from diffsegkit.environment import versions
from diffsegkit.errors import UsageError
from diffsegkit.presets import AFFINITY, Preset

_DEFAULT_PRESET = "affinity"

_USAGE = "diffsegkit segment PHOTO... --out DIR [options]"
_EPILOG = """Writes for each photo, at its own size (with --resize crop, of the crop):
  <stem>_labels.png   the label map; 8 bits, or 16 where there are more than 256 segments
  <stem>_overlay.png  the photo in the segments' colours, outlined
  <stem>.json         segments with area, box and RLE; configuration, versions, times

Any part can be exchanged or tuned, by name or dotted path:
  diffsegkit segment photo.jpg --out segments --merger.thresholds "[0.8, 0.8]"
  diffsegkit segment photo.jpg --out segments --merger KMeansMerger --merger.num_segments 4
  diffsegkit segment 'photos/**/*.jpg' --out segments --merger my_module.MyMerger
The options of a part, with the defaults of its class: diffsegkit segment --merger.help KMeansMerger
What the preset and the options come to: diffsegkit segment --print_config
"""


def run(args: list[str]) -> int:
    """Segment photos.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if a photo failed.
    """
    args = _config_first(args)
    preset = _chosen_preset(args)
    parser = _parser(preset)
    options = parser.parse_args(args)
    # Absent positional arguments are empty, and would hide those of the file.
    named = options.photos or _photos_of_config(args)
    if not named:
        raise UsageError(f"Expected at least one photo, folder or glob: {_USAGE}.")
    if not options.out:
        raise UsageError(f"Expected a folder for the results, --out DIR: {_USAGE}.")
    if options.batch_size < 1:
        raise UsageError(f"--batch-size: expected at least 1, but got {options.batch_size}.")
    directory = Path(options.out).expanduser()
    photos, problems = find_photos(named)
    check_outputs(photos, directory)
    device = _device(options.device)
    segmenter = build_segmenter(parser, options).to(device)
    if options.dtype != "auto":
        segmenter.to(getattr(torch, options.dtype))
    _make_writable(directory, options.out)
    job = Job(
        segmenter=segmenter,
        directory=directory,
        batch_size=options.batch_size,
        metadata={
            "preset": preset,
            "configuration": segmenter.configuration,
            "device": str(device),
            "dtype": options.dtype,
            "versions": versions(),
        },
    )
    todo = [photo for photo in photos if not (options.skip_existing and job.is_done(photo))]
    if len(todo) < len(photos):
        print(f"{len(photos) - len(todo)} of {len(photos)} photos are done already")  # noqa: T201
    done, failures = job.run(todo)
    if todo:
        where = f"; results are in {directory}" if done else ""
        print(f"{done} of {len(todo)} photos segmented{where}")  # noqa: T201
    for problem in [*problems, *failures]:
        print(f"diffsegkit: failed: {problem}", file=sys.stderr)  # noqa: T201
    return 1 if problems or failures else 0


def _parser(preset: str) -> ConfigurationParser:
    parser = ConfigurationParser(
        prog="diffsegkit segment",
        usage=_USAGE,
        description="Segment photos without labels, prompts or training.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "photos",
        nargs="*",
        type=str,
        default=[],
        metavar="PHOTO",
        help="Files, folders and globs.",
    )
    parser.add_argument(
        "--out", type=str, default="", metavar="DIR", help="Where to; made if need be."
    )
    parser.add_argument(
        "--preset",
        type=str,
        default=preset,
        metavar="NAME",
        help="A complete configuration to start from; `diffsegkit list presets`.",
    )
    parser.add_argument(
        "--config",
        action="config",
        metavar="YAML",
        help="Options from a file, as --print_config prints them.",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="Leave out photos whose results with these options are there.",
    )
    parser.add_argument(
        "--device",
        type=str,
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.",
    )
    parser.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "float16", "bfloat16"],
        default="auto",
        metavar="auto|float32|float16|bfloat16",
        help="What the source computes in; auto leaves it as the source is made.",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="Photos at a time.")
    add_debug(parser)
    add_segmenter_arguments(parser, preset_configuration(_load_preset(preset)))
    return parser


def _load_preset(name: str) -> Preset:
    # The default by itself, so that no plugin with a preset of that name can stand in the way.
    return AFFINITY if name == _DEFAULT_PRESET else load_preset(name)


def _chosen_preset(args: Sequence[str]) -> str:
    """The preset, which must be known before parsing: its parts are the parser's defaults."""
    chosen = _DEFAULT_PRESET
    for option, value in _options(args):
        if option == "--config" and Path(value).is_file():
            chosen = _read_config(value).get("preset", chosen)
            if not isinstance(chosen, str):
                raise UsageError(f"Expected the preset to be a name, but got {chosen!r}.")
        if option == "--preset":
            chosen = value
    return chosen


def _photos_of_config(args: Sequence[str]) -> list[str]:
    photos: list[str] = []
    for option, value in _options(args):
        if option == "--config":
            photos = _read_config(value).get("photos", photos)
    return photos


def _read_config(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path!r} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"--config: expected {path!r} to hold options, as --print_config prints them, but got "
            f"{content!r}."
        )
    for option, value in content.items():
        if value is None:
            raise UsageError(f"--config: the option {option!r} in {path!r} has no value.")
    photos = content.get("photos", [])
    if not isinstance(photos, list) or not all(isinstance(photo, str) for photo in photos):
        raise UsageError(f"--config: expected the photos in {path!r} to be a list of names.")
    return content


def _config_first(args: Sequence[str]) -> list[str]:
    """The same command line with ``--config`` in front: whatever is typed beats the file."""
    configs: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--config":
            configs += [arg, *([value] if (value := next(remaining, None)) is not None else [])]
        else:
            (configs if arg.startswith("--config=") else rest).append(arg)
    return configs + rest


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``--name value`` and ``--name=value`` alike."""
    for index, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if equals:
            yield option, value
        elif index + 1 < len(args):
            yield arg, args[index + 1]


def _make_writable(directory: Path, out: str) -> None:
    """Make the folder for the results, and be sure that it takes them, before any work is done."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"Expected --out to be a folder, but {out!r} is a file.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(
            f"Expected --out to be a folder that can be written to, but {out!r} is not: "
            f"{error.strerror}."
        ) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":  # it has shapes and no values
            raise RuntimeError(name)
        torch.empty(0, device=device)
    # Which error an absent device raises depends on how torch was built.
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used here; see `diffsegkit doctor`, or use "
            "--device cpu."
        ) from error
    return device
