"""The abstract parts, and the dataclasses that travel between them."""

from diffsegkit.interfaces.aggregator import Aggregator
from diffsegkit.interfaces.assigner import Assigner
from diffsegkit.interfaces.attention import AggregatedAttention, AttentionMap, SourceOutput
from diffsegkit.interfaces.checks import Grid, validation
from diffsegkit.interfaces.features import require_features
from diffsegkit.interfaces.merger import Merger
from diffsegkit.interfaces.namer import Namer
from diffsegkit.interfaces.prompts import TokenisedPrompt
from diffsegkit.interfaces.proposals import MergingRound, Proposals
from diffsegkit.interfaces.source import AttentionSource

__all__ = [
    "AggregatedAttention",
    "Aggregator",
    "Assigner",
    "AttentionMap",
    "AttentionSource",
    "Grid",
    "Merger",
    "MergingRound",
    "Namer",
    "Proposals",
    "SourceOutput",
    "TokenisedPrompt",
    "require_features",
    "validation",
]
