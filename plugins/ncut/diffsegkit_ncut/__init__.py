"""Normalised cuts as parts of diffsegkit: DiffCut, K-way cuts, TokenCut and MaskCut."""

from diffsegkit_ncut.affinity import attention_affinity, cosine_affinity
from diffsegkit_ncut.aggregator import FeatureAffinityAggregator
from diffsegkit_ncut.eigen import cut_vectors
from diffsegkit_ncut.kway import KWayNcutMerger
from diffsegkit_ncut.maskcut import MaskCutMerger
from diffsegkit_ncut.prototypes import PrototypeAssigner
from diffsegkit_ncut.recursive import RecursiveNcutMerger
from diffsegkit_ncut.tokencut import TokenCutMerger

__all__ = [
    "FeatureAffinityAggregator",
    "KWayNcutMerger",
    "MaskCutMerger",
    "PrototypeAssigner",
    "RecursiveNcutMerger",
    "TokenCutMerger",
    "attention_affinity",
    "cosine_affinity",
    "cut_vectors",
]
