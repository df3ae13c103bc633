"""The heavy operations, one folder each: a PyTorch reference and one public function."""

from diffsegkit.kernels.mean_attention import mean_attention
from diffsegkit.kernels.pairwise_kl import pairwise_kl

__all__ = ["mean_attention", "pairwise_kl"]
