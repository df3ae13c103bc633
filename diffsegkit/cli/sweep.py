"""``diffsegkit sweep``: many variants on the same attention, computed once per image."""

from diffsegkit.cli.experiments import Command, run_experiments

_COMMAND = Command(
    name="sweep",
    usage="diffsegkit sweep SWEEP.yaml [options]",
    description="Score many variants of a method; each image's attention is computed once.",
    epilog="""A sweep is a configuration as `diffsegkit test` takes it, with a list of variants:
  sweep:
    proportional: {}
    only 64: {aggregator: {weighting: {64: 1}}}
    K-means: {merger: {class_path: KMeansMerger, init_args: {num_segments: 6}}}
    one segment: {segmenter: OneSegment}

Writes what `diffsegkit test` writes, with a row per variant, and the grid of pictures.

Example:
  diffsegkit sweep experiments/sweeps/affinity_aggregation.yaml --data.root data/coco
""",
    sweep=True,
)


def run(args: list[str]) -> int:
    """Score the variants of one sweep, or of several one after another.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if one of several failed.
    """
    return run_experiments(_COMMAND, args)
