"""What a preset is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from diffsegkit.images.geometry import Resize

Part = Mapping[str, Any]
"""``{"class_path": name or dotted path, "init_args": {...}}``."""


def part(class_path: str, **init_args: Any) -> Part:  # noqa: ANN401
    """Describe a part of a preset.

    Args:
        class_path: The component's name or dotted path. The path is safer: another plugin may
            come to use the same name.
        init_args: Its arguments.

    Example:
        >>> part("KMeansMerger", num_segments=4)
        {'class_path': 'KMeansMerger', 'init_args': {'num_segments': 4}}
    """
    return {"class_path": class_path, "init_args": init_args}


@dataclass(frozen=True)
class Preset:
    """A complete configuration of a segmenter, to be registered as an entry point.

    Args:
        summary: One sentence: what it is and where its numbers come from.
        source: The attention source, see :func:`part`; None leaves it to whoever uses the preset.
        aggregator: The aggregator.
        merger: The merger, with thresholds that suit the source.
        assigner: The assigner.
        namer: What names segments; None for segments without names.
        image_size: The longer side at which the source sees an image, in pixels.
        resize: How the aspect ratio is treated.
        antialias: Whether shrinking averages over all pixels.
        requires: Modules that must be importable.
        extra: The extra of the preset's distribution that installs them, such as
            ``"diffsegkit[sd]"``.
    """

    summary: str
    source: Part | None
    aggregator: Part = field(
        default_factory=lambda: part("diffsegkit.aggregators.ResolutionAggregator")
    )
    merger: Part = field(default_factory=lambda: part("diffsegkit.mergers.IterativeKLMerger"))
    assigner: Part = field(default_factory=lambda: part("diffsegkit.assigners.ArgmaxAssigner"))
    namer: Part | None = None
    image_size: int = 512
    resize: Resize = "fit"
    antialias: bool = False
    requires: Sequence[str] = ()
    extra: str = ""

    def missing(self) -> list[str]:
        """The required modules that are not installed; nothing is imported."""
        return [module for module in self.requires if find_spec(module.partition(".")[0]) is None]
