"""The heavy operations, one folder each: a PyTorch reference and one public function."""

from diffsegkit.kernels.pairwise_kl import pairwise_kl

__all__ = ["pairwise_kl"]
