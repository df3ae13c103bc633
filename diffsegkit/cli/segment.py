"""``diffsegkit segment``: photos in, label maps, overlays and JSON out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from diffsegkit.cli.arguments import (
    chosen_preset,
    config_first,
    find_device,
    named_preset,
    read_config,
    refuse_parts_of_a_whole,
    set_dtype,
    typed_options,
)
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.cli.job import Job
from diffsegkit.cli.photos import check_outputs, find_photos
from diffsegkit.configuration import (
    CACHE,
    ConfigurationParser,
    add_segmenter_arguments,
    build_method,
    preset_configuration,
)
from diffsegkit.environment import versions
from diffsegkit.errors import UsageError
from diffsegkit.files import writable_folder
from diffsegkit.interfaces.parts import OPTIONAL_PARTS

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
    args = config_first(args)
    preset = chosen_preset(args)
    photos_of_configs = _photos_of_configs(args)
    parser = _parser(preset)
    options = parser.parse_args(args)
    refuse_parts_of_a_whole(args, options.segmenter)
    # Absent positional arguments are empty, and would hide those of the file.
    named = options.photos or photos_of_configs
    if not named:
        raise UsageError(f"Expected at least one photo, folder or glob: {_USAGE}.")
    if not options.out:
        raise UsageError(f"Expected a folder for the results, --out DIR: {_USAGE}.")
    if options.batch_size < 1:
        raise UsageError(f"--batch-size: expected at least 1, but got {options.batch_size}.")
    directory = Path(options.out).expanduser()
    photos, problems = find_photos(named)
    check_outputs(photos, directory)
    device = find_device(options.device)
    segmenter = build_method(parser, options)
    dtype = set_dtype(segmenter, options.dtype, device)
    segmenter.to(device)
    writable_folder(options.out, "--out")
    job = Job(
        segmenter=segmenter,
        directory=directory,
        batch_size=options.batch_size,
        metadata={
            "preset": preset,
            "configuration": segmenter.configuration,
            "device": str(device),
            "dtype": dtype,
            "versions": versions(),
        },
    )
    todo = job.not_done(photos) if options.skip_existing else photos
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
        help="What the source computes in; auto is what suits the source and the device.",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="Photos at a time.")
    add_debug(parser)
    add_segmenter_arguments(parser, preset_configuration(named_preset(preset)))
    return parser


def _photos_of_configs(args: Sequence[str]) -> list[str]:
    found: list[str] = []
    for option, path in typed_options(args):
        if option != "--config" or not Path(path).is_file():
            continue
        content = read_config(path)
        for name, value in content.items():
            if value is None and name not in ("segmenter", CACHE, *OPTIONAL_PARTS):
                raise UsageError(f"--config: the option {name!r} in {path!r} has no value.")
        found = content.get("photos", found)
        if not isinstance(found, list) or not all(isinstance(photo, str) for photo in found):
            raise UsageError(f"--config: expected the photos in {path!r} to be a list of names.")
    return found
