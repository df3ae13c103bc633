"""What the four parts are called, as arguments, options and keys alike."""

from diffsegkit.interfaces.aggregator import Aggregator
from diffsegkit.interfaces.assigner import Assigner
from diffsegkit.interfaces.merger import Merger
from diffsegkit.interfaces.source import AttentionSource

PARTS: dict[str, type] = {
    "source": AttentionSource,
    "aggregator": Aggregator,
    "merger": Merger,
    "assigner": Assigner,
}
"""The base class of each part."""
