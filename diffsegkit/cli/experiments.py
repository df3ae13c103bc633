"""Run one configuration in this process, or several in processes of their own."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffsegkit.cli.arguments import config_first, read_config, typed_options
from diffsegkit.cli.evaluation import EvaluationCLI
from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.evaluation.table import Row, markdown

_FLAGS = ("--resume", "--overwrite", "--help", "-h", "--print_config", "--debug")
_DEFAULT_OUT = "outputs"


@dataclass(frozen=True)
class Command:
    """A command that evaluates.

    Args:
        name: What it is called.
        usage: For the help.
        description: For the help.
        epilog: For the help.
        sweep: Whether it takes variants.
        logs: Whether there is anything to log.
    """

    name: str
    usage: str
    description: str
    epilog: str
    sweep: bool = False
    logs: bool = True

    def cli(self, args: Sequence[str]) -> EvaluationCLI:
        """Parse and build.

        Args:
            args: The command's own arguments, with ``--config`` for the file.
        """
        # LightningCLI's short form; the long one is what presets are looked for in.
        args = ["--config" if arg == "-c" else arg for arg in args]
        return EvaluationCLI(
            _with_name(config_first(args)),
            prog=f"diffsegkit {self.name}",
            usage=self.usage,
            description=self.description,
            epilog=self.epilog,
            sweep=self.sweep,
            logs=self.logs,
        )


def run_experiments(command: Command, args: list[str]) -> int:
    """Score the methods of one configuration or several.

    Args:
        command: Which.
        args: Its own arguments.

    Returns:
        0, or 1 if one of several failed.
    """
    configs, rest = split_configs(args)
    if len(configs) > 1:
        return _run_each(command, configs, rest)
    cli = command.cli([*(["--config", configs[0]] if configs else []), *rest])
    cli.prepare()
    if cli.is_first_process:
        cli.model.check(cli.datamodule)
    try:
        cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    except SystemExit as stop:  # how Lightning ends when interrupted
        raise KeyboardInterrupt from stop
    except RuntimeError as error:
        if cli.trainer.world_size > 1 and re.search(r"connection|gloo|nccl|peer", str(error), re.I):
            raise DiffSegKitError(
                "Another process of this run has ended; go on with --resume when its cause, which "
                "it may have said above, is mended."
            ) from error
        raise
    if cli.trainer.is_global_zero:
        print(markdown(_rows(cli.folder)))  # noqa: T201
        print(f"Results are in {cli.folder}, and in {cli.model.table}.")  # noqa: T201
    return 0


def split_configs(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Configuration files that are named without ``--config``, and all the rest.

    Args:
        args: A command line.

    Example:
        >>> split_configs(["a.yaml", "b.yaml", "--data.ids", "c.yaml", "--resume"])
        (['a.yaml', 'b.yaml'], ['--data.ids', 'c.yaml', '--resume'])
    """
    configs: list[str] = []
    rest: list[str] = []
    is_value = False
    for arg in args:
        is_config = arg.endswith((".yaml", ".yml", ".json")) and not arg.startswith("-")
        (configs if is_config and not is_value else rest).append(arg)
        is_value = arg.startswith("-") and "=" not in arg and arg not in _FLAGS
    return configs, rest


def experiment_name(config: str) -> str:
    """What a run is called after its configuration file: folder and stem.

    Args:
        config: The file.

    Example:
        >>> experiment_name("experiments/bsds500/affinity.yaml")
        'bsds500/affinity'
    """
    path = Path(config).resolve()
    return f"{path.parent.name}/{path.stem}".lstrip("/")


def _with_name(args: list[str]) -> list[str]:
    """The same command line, with the name that its configuration file gives it."""
    configs = [value for option, value in typed_options(args) if option == "--config"]
    if not configs or any(option == "--name" for option, _ in typed_options(args)):
        return args
    if any(Path(config).is_file() and "name" in read_config(config) for config in configs):
        return args
    return [*args, "--name", experiment_name(configs[-1])]


def _run_each(command: Command, configs: Sequence[str], rest: Sequence[str]) -> int:
    """One after another, each in a process of its own, so that none inherits another's memory."""
    if any(option == "--name" for option, _ in typed_options(rest)):
        raise UsageError("--name is for one configuration file; with several, each has its own.")
    absent = [config for config in configs if not Path(config).is_file()]
    if absent:
        raise UsageError(f"There is no configuration file {absent[0]!r}.")
    rows: list[Row] = []
    failed: list[str] = []
    for number, config in enumerate(configs, start=1):
        print(f"{number} of {len(configs)}: {config}", file=sys.stderr)  # noqa: T201
        line = [sys.executable, "-m", "diffsegkit", command.name, "--config", config, *rest]
        done = subprocess.run(line, stdout=subprocess.DEVNULL, check=False)
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            failed.append(config)
        else:
            rows += _rows(_folder(config, rest))
    print(markdown(rows))  # noqa: T201
    for config in configs:
        if config not in failed:
            print(f"Results are in {_folder(config, rest)}.")  # noqa: T201
    for config in failed:
        print(f"diffsegkit: failed: {config}", file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


def _folder(config: str, rest: Sequence[str]) -> Path:
    """Where the run of a configuration file has its results."""
    content = read_config(config)
    typed = [value for option, value in typed_options(rest) if option == "--out"]
    out = typed[-1] if typed else content.get("out", _DEFAULT_OUT)
    name: str = content.get("name", experiment_name(config))
    return Path(out).expanduser() / name


def _rows(folder: Path) -> list[Row]:
    document = json.loads((folder / "results.json").read_bytes())
    return [Row.from_document(document, result) for result in document["results"]]
