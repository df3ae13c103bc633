"""Softmax attention averaged over heads, block by block, in PyTorch."""

import torch
from torch import Tensor

_BLOCK_BYTES = {"cpu": 8 * 2**20}  # what the caches of a few cores hold is fastest
_DEFAULT_BLOCK_BYTES = 64 * 2**20


def mean_attention_reference(
    q: Tensor, k: Tensor, scale: float, out: Tensor, weight: float
) -> Tensor:
    """Add ``weight`` times the mean over heads of ``softmax(scale q k^T)`` to ``out``.

    Args:
        q: ``(B, H, M, d)``, floating point; half precision is widened block by block.
        k: ``(B, H, N, d)`` likewise.
        scale: What the products are multiplied with before the softmax.
        out: ``(B, M, N)``, float32 or float64, which is also what is computed in.
        weight: What each row adds up to.

    Returns:
        ``out``.
    """
    images, heads, queries, _ = q.shape
    keys = k.shape[2]
    limit = _BLOCK_BYTES.get(q.device.type, _DEFAULT_BLOCK_BYTES) // out.element_size()
    heads_at_once = max(1, min(heads, limit // (queries * keys)))
    rows_at_once = max(1, min(queries, limit // (heads_at_once * keys)))
    for image in range(images):
        for first in range(0, heads, heads_at_once):
            group = slice(first, first + heads_at_once)
            keys_t = k[image, group].to(out.dtype).mT
            for start in range(0, queries, rows_at_once):
                rows = slice(start, start + rows_at_once)
                logits = (q[image, group, rows].to(out.dtype) * scale) @ keys_t
                # Into its own memory: a block is never held twice.
                torch.softmax(logits, dim=-1, out=logits)
                for probs in logits:
                    out[image, rows].add_(probs, alpha=weight / heads)
    return out
