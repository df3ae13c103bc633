"""Segment any photo without labels, prompts or training: DiffSeg as a framework.

Public names are imported when they are first used, so ``import diffsegkit`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffsegkit.images import load_image
    from diffsegkit.interfaces import (
        AggregatedAttention,
        Aggregator,
        Assigner,
        AttentionMap,
        AttentionSource,
        Merger,
        MergingRound,
        Namer,
        Proposals,
        SourceOutput,
        validation,
    )
    from diffsegkit.presets import Preset
    from diffsegkit.registry import list_components
    from diffsegkit.segmentation import Segmentation, close_gaps
    from diffsegkit.segmenter import Segmenter

__all__ = [
    "AggregatedAttention",
    "Aggregator",
    "Assigner",
    "AttentionMap",
    "AttentionSource",
    "Merger",
    "MergingRound",
    "Namer",
    "Preset",
    "Proposals",
    "Segmentation",
    "Segmenter",
    "SourceOutput",
    "close_gaps",
    "list_components",
    "load_image",
    "validation",
]

__version__ = _version("diffsegkit")

# Everything else comes from diffsegkit.interfaces.
_HOME_OF = {
    "Preset": "diffsegkit.presets",
    "Segmentation": "diffsegkit.segmentation",
    "Segmenter": "diffsegkit.segmenter",
    "close_gaps": "diffsegkit.segmentation",
    "list_components": "diffsegkit.registry",
    "load_image": "diffsegkit.images",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'diffsegkit' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "diffsegkit.interfaces")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
