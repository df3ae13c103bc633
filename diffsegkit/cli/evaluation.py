"""What ``test``, ``predict`` and ``sweep`` share: one LightningCLI."""

import json
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from lightning import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from diffsegkit.cli.arguments import (
    chosen_preset,
    named_preset,
    refuse_parts_of_a_whole,
    set_dtype,
)
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.configuration import (
    CACHE,
    OPTIONS,
    ConfigurationParser,
    add_segmenter_arguments,
    build_method,
    only,
    preset_configuration,
)
from diffsegkit.data import SegmentationDataModule
from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.evaluation import EvaluationModule
from diffsegkit.evaluation.sweep import build_sweep
from diffsegkit.files import writable_folder
from diffsegkit.interfaces.parts import ALL_PARTS
from diffsegkit.parsing import one_sentence

_OF_SEGMENTER = (*ALL_PARTS, *OPTIONS, "segmenter")


class EvaluationParser(ConfigurationParser, LightningArgumentParser):
    """LightningCLI's parser, with names of parts and errors in one sentence."""


class EvaluationCLI(LightningCLI):
    """Trainer, data and method from one command line; the parts are at its top level.

    Args:
        args: The command line, configuration files first.
        prog: For the help.
        usage: For the help.
        description: For the help.
        epilog: For the help.
        sweep: Whether variants are expected.
        logs: Whether there is anything to log.
    """

    def __init__(
        self,
        args: Sequence[str],
        *,
        prog: str,
        usage: str,
        description: str,
        epilog: str,
        sweep: bool = False,
        logs: bool = True,
    ) -> None:
        self._preset = chosen_preset(args)
        self._sweep = sweep
        self._logs = logs
        _quieten_lightning()
        super().__init__(
            model_class=EvaluationModule,
            datamodule_class=SegmentationDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"enable_checkpointing": False, "enable_model_summary": False},
            parser_class=EvaluationParser,
            parser_kwargs={
                "prog": prog,
                "usage": usage,
                "description": description,
                "epilog": epilog,
                "formatter_class": HelpFormatter,
            },
            args=list(args),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Trainer, module and data; of the module only what a command line can give.

        Args:
            parser: The parser.
        """
        data = parser.add_argument_group("data options", "`diffsegkit list datamodules`")
        data.add_argument(
            "--data", type=SegmentationDataModule, metavar="NAME", help="What to segment."
        )
        parser.add_class_arguments(
            EvaluationModule,
            "model",
            skip={"methods", "directory", "resume", "overwrite", "table", "metadata"},
            instantiate=False,
        )
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults(
            {f"trainer.{key}": value for key, value in self.trainer_defaults.items()}
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What is our own: preset and parts, where results go, and how to go on.

        Args:
            parser: The parser.
        """
        assert isinstance(parser, ConfigurationParser)
        run = parser.add_argument_group("run options")
        run.add_argument(
            "--out", type=str, default="outputs", metavar="DIR", help="Where results go."
        )
        run.add_argument(
            "--name",
            type=str,
            default="",
            metavar="NAME",
            help="The run's folder below --out, and what results call the method; by default the "
            "configuration file's folder and name, or data and preset.",
        )
        run.add_argument(
            "--resume", action="store_true", help="Go on where an interrupted run stopped."
        )
        run.add_argument(
            "--overwrite", action="store_true", help="Start anew where an interrupted run stopped."
        )
        run.add_argument(
            "--preset",
            type=str,
            default=self._preset,
            metavar="NAME",
            help="A complete configuration to start from; `diffsegkit list presets`.",
        )
        run.add_argument(
            "--dtype",
            type=Literal["auto", "float32", "float16", "bfloat16"],
            default="auto",
            metavar="auto|float32|float16|bfloat16",
            help="What the source computes in; auto is what suits the source and the device.",
        )
        if self._sweep:
            run.add_argument(
                "--sweep",
                type=dict[str, dict[str, Any]],
                default={},
                metavar="MAPPING",
                help="Variants by name: what each changes in the parts.",
            )
        add_debug(parser)
        add_segmenter_arguments(parser, preset_configuration(named_preset(self._preset)))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what was given, not what the process was started with.

        Args:
            parser: The parser.
            args: The command line.

        Raises:
            UsageError: If there is no data set, or options contradict each other.
        """
        self.config = parser.parse_args(cast("list[str]", args))
        refuse_parts_of_a_whole(cast("list[str]", args), self.config.segmenter)
        name = Path(self.config.name)
        if name.is_absolute() or ".." in name.parts or re.search(r"[\n|]", self.config.name):
            raise UsageError(
                f"Expected --name to be a folder below --out, but got {self.config.name!r}."
            )
        if not self.config.get("data"):
            raise UsageError(
                "Expected a data set: --data NAME (`diffsegkit list datamodules`) with its "
                "--data.root, or --data Folder --data.images DIR --data.labels DIR."
            )
        if self._sweep and not self.config.sweep:
            raise UsageError(
                "Expected variants to evaluate: a file with `sweep:` and beneath it names with "
                "what each changes, such as experiments/sweeps/affinity_thresholds.yaml."
            )

    def instantiate_classes(self) -> None:
        """Build methods, data, module and trainer.

        Raises:
            UsageError: If anything refuses its arguments.
        """
        self.plain: dict[str, Any] = json.loads(
            self.parser.dump(self.config, format="json", skip_validation=True)
        )
        self.methods = self._build_methods()
        rest = only(self.config, ["data", "model", "trainer"])
        try:
            self.config_init = self.parser.instantiate(rest)
        except DiffSegKitError:
            raise
        except (ModuleNotFoundError, TypeError, ValueError) as error:
            raise UsageError(_missing_logger(error) or one_sentence(str(error))) from error
        self.datamodule: SegmentationDataModule = self.config_init.data
        self.name = self.config.name or f"{self.datamodule.name}/{self._method_name()}"
        self.out = Path(self.config.out).expanduser()
        self.folder = self.out / self.name
        self.model = EvaluationModule(
            self._named(self.methods),
            self.folder,
            resume=self.config.resume,
            overwrite=self.config.overwrite,
            table=self.out / "results.csv",
            metadata={
                "name": self.name,
                "preset": None if self.config.segmenter else self._preset,
                "seed": self.config.seed_everything,
                "dtype": self.config.dtype,
                "settings": self._settings(),
            },
            **self.config_init.model,
        )
        self.trainer = self.instantiate_trainer()
        device = self.trainer.strategy.root_device
        for method in self.model.methods.values():
            self.model.metadata["dtype"] = set_dtype(method, self.config.dtype, device)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
        """The trainer, by default with a progress bar and a CSV of what is logged.

        Args:
            kwargs: Further arguments of the trainer.
        """
        config = {**self.config_init.trainer, **kwargs}
        if not self._logs:
            config["logger"] = False
        elif config.get("logger") in (None, True):
            config["logger"] = CSVLogger(self.folder, name="", version="logs")
        callbacks = config.get("callbacks") or []
        config["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        if config.get("enable_progress_bar") is not False:
            config["callbacks"].append(RichProgressBar(console_kwargs={"stderr": True}))
        try:
            return Trainer(**config)
        # What Lightning raises about devices and strategies is its own and not documented.
        except Exception as error:
            raise UsageError(f"--trainer: {' '.join(str(error).split())}") from error

    @property
    def is_first_process(self) -> bool:
        """Whether this process was started by the user, not by Lightning or a launcher for it."""
        return all(
            os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID")
        )

    def prepare(self) -> None:
        """Be sure that data and folder are fit before any process is started.

        Raises:
            UsageError: If not.
        """
        if self.is_first_process:
            writable_folder(str(self.folder), "--out")
        self.datamodule.setup()

    def _build_methods(self) -> nn.Module | Mapping[str, nn.Module]:
        methods: nn.Module | Mapping[str, nn.Module]
        if self._sweep:
            if self.config.segmenter:
                raise UsageError("A sweep varies parts, and --segmenter has none.")
            configuration = {
                key: self.plain[key] for key in (*ALL_PARTS, *OPTIONS, CACHE) if key in self.plain
            }
            methods = build_sweep(configuration, self.plain["sweep"])
        else:
            methods = build_method(self.parser, self.config)
        return methods

    def _named(self, methods: nn.Module | Mapping[str, nn.Module]) -> Mapping[str, nn.Module]:
        return methods if isinstance(methods, Mapping) else {Path(self.name).name: methods}

    def _method_name(self) -> str:
        if self.config.segmenter:
            return str(self.config.segmenter.class_path).rpartition(".")[2]
        return self._preset

    def _settings(self) -> dict[str, Any]:
        """The rest of the resolved configuration, beside that of the method."""
        return {key: self.plain[key] for key in ("data", "model", "trainer") if key in self.plain}


def _missing_logger(error: Exception) -> str | None:
    """The extra to install, if the error is Lightning's about a logger's package."""
    for extra in ("wandb", "tensorboard"):
        if re.search(f"(Requirement '|No module named '){extra}", str(error)):
            return f"The logger needs {extra}: pip install 'diffsegkit[{extra}]'."
    return None


def _quieten_lightning() -> None:
    """Keep what concerns the user: Lightning's tips and its list of devices do not."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Consider setting `persistent_workers.*",
        "Experiment logs directory .* exists and is not empty.*",
        ".*LeafSpec.* is deprecated.*",  # Lightning's call, not ours
    ):
        warnings.filterwarnings("ignore", message)
