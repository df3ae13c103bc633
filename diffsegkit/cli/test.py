"""``diffsegkit test``: a method on a data set, scored by a protocol."""

from diffsegkit.cli.experiments import Command, run_experiments

_COMMAND = Command(
    name="test",
    usage="diffsegkit test [CONFIG.yaml ...] [options]",
    description="Score a method on a data set by a named protocol.",
    epilog="""Writes to OUT/NAME results.json, table.md, per_image.csv and pictures, and a row to
OUT/results.csv. Several configuration files run one after another, a row each in one table.

Examples:
  diffsegkit test --data Folder --data.images photos --data.labels masks
  diffsegkit test experiments/bsds500/affinity.yaml --data.root data/BSDS500
  diffsegkit test experiments/bsds500/affinity*.yaml --data.root data/BSDS500 --out outputs
  diffsegkit test experiments/bsds500/affinity.yaml --merger.thresholds "[1.2, 1.2]" --name other
  diffsegkit test experiments/bsds500/affinity.yaml --trainer.devices 2 --resume
""",
)


def run(args: list[str]) -> int:
    """Score one method, or several one after another.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if one of several failed.
    """
    return run_experiments(_COMMAND, args)
