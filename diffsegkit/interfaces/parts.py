"""What the parts are called, as arguments, options and keys alike."""

from diffsegkit.interfaces.aggregator import Aggregator
from diffsegkit.interfaces.assigner import Assigner
from diffsegkit.interfaces.merger import Merger
from diffsegkit.interfaces.namer import Namer
from diffsegkit.interfaces.source import AttentionSource

PARTS: dict[str, type] = {
    "source": AttentionSource,
    "aggregator": Aggregator,
    "merger": Merger,
    "assigner": Assigner,
}
"""The base class of each part that a segmenter must have."""

OPTIONAL_PARTS: dict[str, type] = {"namer": Namer}
"""The base class of each part that it may have."""

ALL_PARTS = PARTS | OPTIONAL_PARTS
