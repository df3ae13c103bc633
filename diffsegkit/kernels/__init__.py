"""The heavy operations, one folder each: PyTorch, Triton, and one public function that chooses."""

from diffsegkit.kernels.absorb import absorb
from diffsegkit.kernels.accumulate_upsampled import accumulate_upsampled
from diffsegkit.kernels.backend import kernel_backend
from diffsegkit.kernels.greedy_groups import greedy_groups
from diffsegkit.kernels.mean_attention import mean_attention
from diffsegkit.kernels.pairwise_kl import pairwise_kl
from diffsegkit.kernels.upsampled_argmax import upsampled_argmax

__all__ = [
    "absorb",
    "accumulate_upsampled",
    "greedy_groups",
    "kernel_backend",
    "mean_attention",
    "pairwise_kl",
    "upsampled_argmax",
]
