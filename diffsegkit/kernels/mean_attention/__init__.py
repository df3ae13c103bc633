"""Softmax attention averaged over heads, without the heads' maps in memory."""

import torch
from torch import Tensor

from diffsegkit.kernels.backend import Backend, use_triton
from diffsegkit.kernels.mean_attention.reference import mean_attention_reference

__all__ = ["mean_attention"]


def mean_attention(
    q: Tensor,
    k: Tensor,
    scale: float | None = None,
    *,
    out: Tensor | None = None,
    weight: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    r"""Attention maps of one layer, averaged over its heads.

    .. math:: A = \frac1H \sum_h \operatorname{softmax}(s\, Q_h K_h^\top)

    This is what DiffSeg takes of each self-attention layer (paper, section 3.1). Sums of products
    and softmax are float32 whatever the dtype of the inputs. In PyTorch they come in blocks of
    rows and heads: at most 8 MiB of per-head probabilities exist at a time on a CPU, 64 MiB
    elsewhere (or one row). In Triton they never leave the registers. A row with NaN, and every row
    if a key has one, is NaN.

    Args:
        q: Queries ``(B, H, M, d)``, floating point.
        k: Keys ``(B, H, N, d)``, of one dtype with the queries.
        scale: s; the default is ``d ** -0.5``.
        out: ``(B, M, N)``, float32 (float64 if the inputs are), to which the result is added in
            place, so that layers can be averaged as they come.
        weight: What the result is multiplied with.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``. Float64 is always PyTorch's.

    Returns:
        ``(B, M, N)``: ``out``, or a new tensor whose rows sum to ``weight``. It carries no
        gradient.

    Raises:
        ValueError: If shapes, dtypes or devices do not agree.
        BackendError: If ``backend="triton"`` cannot run here.

    Example:
        >>> import torch
        >>> q = torch.zeros(1, 8, 2, 4)
        >>> mean_attention(q, q)
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    _check_inputs(q, k)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    shape = (q.shape[0], q.shape[2], k.shape[2])
    if out is not None and (
        tuple(out.shape) != shape or out.dtype != dtype or out.device != q.device
    ):
        raise ValueError(
            f"Expected argument `out` to be {dtype} of shape {shape} on {q.device}, but got "
            f"{out.dtype} of shape {tuple(out.shape)} on {out.device}."
        )
    if scale is None:
        scale = q.shape[-1] ** -0.5
    with torch.no_grad():
        if use_triton("mean_attention", backend, q):
            from diffsegkit.kernels.mean_attention.triton import mean_attention_triton

            return mean_attention_triton(q, k, scale, out, weight)
        if out is None:
            out = torch.zeros(shape, dtype=dtype, device=q.device)
        return mean_attention_reference(q, k, scale, out, weight)


def _check_inputs(q: Tensor, k: Tensor) -> None:
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError(
            "Expected arguments `q` and `k` to be of shape (B, H, N, d), but got "
            f"{tuple(q.shape)} and {tuple(k.shape)}."
        )
    if q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3] or 0 in (*q.shape, *k.shape):
        raise ValueError(
            "Expected arguments `q` and `k` to agree in all but the number of locations, and none "
            f"to be empty, but got shapes {tuple(q.shape)} and {tuple(k.shape)}."
        )
    if not q.is_floating_point() or q.dtype != k.dtype or q.device != k.device:
        raise ValueError(
            "Expected arguments `q` and `k` to be floating point, of one dtype on one device, but "
            f"got {q.dtype} on {q.device} and {k.dtype} on {k.device}."
        )
