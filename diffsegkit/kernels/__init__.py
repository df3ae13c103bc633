"""The heavy operations, one folder each: PyTorch, Triton, and one public function that chooses."""

from diffsegkit.kernels.backend import Backend, kernel_backend
from diffsegkit.kernels.mean_attention import mean_attention
from diffsegkit.kernels.pairwise_kl import pairwise_kl

__all__ = ["Backend", "kernel_backend", "mean_attention", "pairwise_kl"]
