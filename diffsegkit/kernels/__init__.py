"""The heavy operations, one folder each: PyTorch, Triton, and one public function that chooses."""

from diffsegkit.kernels.absorb import absorb
from diffsegkit.kernels.backend import Backend, kernel_backend
from diffsegkit.kernels.mean_attention import mean_attention
from diffsegkit.kernels.pairwise_kl import pairwise_kl

__all__ = ["Backend", "absorb", "kernel_backend", "mean_attention", "pairwise_kl"]
