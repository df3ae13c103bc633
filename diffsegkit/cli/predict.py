"""``diffsegkit predict``: label maps of a whole data set."""

import json
from typing import Any

from diffsegkit.cli.experiments import Command, split_configs
from diffsegkit.environment import versions
from diffsegkit.errors import UsageError
from diffsegkit.evaluation import LabelMapWriter
from diffsegkit.files import write_atomically

_COMMAND = Command(
    name="predict",
    usage="diffsegkit predict [CONFIG.yaml] [options]",
    description="Write the label maps of a data set.",
    epilog="""Writes to OUT/NAME/labels a grey PNG per sample, named by its id, at the size at which
`diffsegkit test` scores it, with a manifest; and OUT/NAME/predictions.json, which says how they
came about. With --resume, label maps that are there are left out.

Examples:
  diffsegkit predict --data Folder --data.images photos
  diffsegkit predict experiments/bsds500/affinity.yaml --data.root data/BSDS500 --resume
""",
    logs=False,
)


def run(args: list[str]) -> int:
    """Write label maps.

    Args:
        args: The command's own arguments.

    Returns:
        0.
    """
    configs, rest = split_configs(args)
    if len(configs) > 1:
        raise UsageError(f"Expected one configuration file, but got {', '.join(configs)}.")
    cli = _COMMAND.cli([*(["--config", configs[0]] if configs else []), *rest])
    cli.prepare()
    description: dict[str, Any] = cli.model.description(cli.datamodule)
    # How they are scored changes no label map; nor does which images there are, unless the
    # method is told something of the ground truth.
    depends_on = {key: description[key] for key in ("methods", "num_segments", "dtype", "seed")}
    depends_on["crop"] = description["data"]["crop"]
    if cli.config.model.num_segments != "none":
        depends_on["files_sha256"] = description["data"]["files_sha256"]
    labels = cli.folder / "labels"
    writer = LabelMapWriter(labels, depends_on, skip_existing=cli.config.resume)
    # Another callback than those of the command line, so it comes with the call.
    cli.trainer.callbacks.append(writer)  # type: ignore[attr-defined]
    try:
        cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    except SystemExit as stop:  # how Lightning ends when interrupted
        raise KeyboardInterrupt from stop
    if cli.trainer.is_global_zero:
        record = {"predicts": depends_on, "data": description["data"], "versions": versions()}
        text = json.dumps(record, indent=2).encode()
        write_atomically(cli.folder / "predictions.json", lambda file: file.write(text))
        number = len(cli.datamodule.ids)
        if writer.num_skipped:
            print(f"{writer.num_skipped} of {number} were done already")  # noqa: T201
        print(f"{number} label maps are in {labels}.")  # noqa: T201
    return 0
