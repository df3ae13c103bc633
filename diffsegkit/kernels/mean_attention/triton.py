"""Mean attention on a GPU: two passes over the keys, and no head's map in memory.

The first pass finds two numbers per row and head: the largest product, and one over the sum of
exp(scale (product - largest)). With them, a tile of the mean map adds up the heads in registers and
is written once. The difference is taken before it is scaled, so large products lose nothing, and
exponentials are powers of two, which is what the hardware computes: log2(e) is in the scale.
"""

from math import e, log2

import torch
import triton
import triton.language as tl
from torch import Tensor

from diffsegkit.kernels.launch import launch
from diffsegkit.kernels.pairwise_kl.triton import contiguous_rows

# Where maxima start. Not -inf, which would make NaN of a block of keys whose products are all -inf.
_LOWEST = tl.constexpr(-1e30)


@triton.jit
def _tile_of_products(
    q, k, rows, columns, stride_q, stride_k,
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of some queries with some keys of one head; all must exist."""
    channels = tl.arange(0, BLOCK)
    q_places = q + rows.to(tl.int64)[:, None] * stride_q * UNIT + channels[None, :]
    k_places = k + columns.to(tl.int64)[None, :] * stride_k * UNIT + channels[:, None]
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, CHANNELS, BLOCK):
        if CHANNELS % BLOCK == 0:
            own = tl.load(q_places)
            other = tl.load(k_places)
        else:
            inside = channels < CHANNELS - start
            own = tl.load(q_places, mask=inside[None, :], other=0.0)
            other = tl.load(k_places, mask=inside[:, None], other=0.0)
        products = tl.dot(own, other, products, input_precision=PRECISION)
        q_places += BLOCK
        k_places += BLOCK
    return products


@triton.jit
def _maxima_and_sums_kernel(
    q, k, maxima, reciprocals, num_queries, num_keys, stride_qb, stride_qh, stride_q, stride_kb,
    stride_kh, stride_k, stride_sb, stride_sh, scale,
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head, image = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    q += (image * stride_qb + head * stride_qh) * UNIT
    k += (image * stride_kb + head * stride_kh) * UNIT
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    existing_rows = tl.minimum(rows, num_queries - 1)
    largest = tl.full((ROWS,), _LOWEST, tl.float32)
    sums = tl.zeros((ROWS,), tl.float32)
    for start in range(0, num_keys, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        existing = columns
        if not EVEN:
            existing = tl.minimum(columns, num_keys - 1)
        products = _tile_of_products(
            q, k, existing_rows, existing, stride_q, stride_k, CHANNELS, UNIT, ROWS, COLUMNS,
            BLOCK, PRECISION,
        )  # fmt: skip
        # A maximum may skip NaN, the sum does not, so it is NaN for a row that has one.
        higher = tl.maximum(largest, tl.max(products, 1))
        exponentials = tl.exp2((products - higher[:, None]) * scale)
        if not EVEN:
            exponentials = tl.where((columns < num_keys)[None, :], exponentials, 0.0)
        sums = sums * tl.exp2((largest - higher) * scale) + tl.sum(exponentials, 1)
        largest = higher
    places = image * stride_sb + head * stride_sh + rows
    inside = rows < num_queries
    tl.store(maxima + places, largest, mask=inside)
    tl.store(reciprocals + places, 1 / sums, mask=inside)


@triton.jit
def _write(
    out, values, rows, columns, num_queries, num_keys, stride_oq, stride_ok,
    ADD: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    places = rows.to(tl.int64)[:, None] * stride_oq + columns.to(tl.int64)[None, :] * stride_ok
    places += out
    if EVEN:
        if ADD:
            values += tl.load(places)
        tl.store(places, values)
    else:
        inside = (rows < num_queries)[:, None] & (columns < num_keys)[None, :]
        if ADD:
            values += tl.load(places, mask=inside)
        tl.store(places, values, mask=inside)


@triton.jit
def _mean_attention_kernel(
    q, k, maxima, reciprocals, out, num_heads, num_queries, num_keys, stride_qb, stride_qh,
    stride_q, stride_kb, stride_kh, stride_k, stride_sb, stride_sh, stride_ob, stride_oq, stride_ok,
    scale, factor,
    CHANNELS: tl.constexpr, UNIT: tl.constexpr, ADD: tl.constexpr, EVEN: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    q += image * stride_qb * UNIT
    k += image * stride_kb * UNIT
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    existing_rows, existing_columns = rows, columns
    if not EVEN:
        existing_rows = tl.minimum(rows, num_queries - 1)
        existing_columns = tl.minimum(columns, num_keys - 1)
    maxima += image * stride_sb + existing_rows
    reciprocals += image * stride_sb + existing_rows
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(num_heads):
        products = _tile_of_products(
            q, k, existing_rows, existing_columns, stride_q, stride_k, CHANNELS, UNIT, ROWS,
            COLUMNS, BLOCK, PRECISION,
        )  # fmt: skip
        exponentials = tl.exp2((products - tl.load(maxima)[:, None]) * scale)
        total += exponentials * tl.load(reciprocals)[:, None]
        q += tl.cast(stride_qh, tl.int64) * UNIT
        k += tl.cast(stride_kh, tl.int64) * UNIT
        maxima += stride_sh
        reciprocals += stride_sh
    total *= factor
    out += image * stride_ob
    # One half after the other, because what is read of all of it would not fit the registers.
    left, right = tl.split(tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS // 2)
    _write(out, left, rows, columns, num_queries, num_keys, stride_oq, stride_ok, ADD, EVEN)
    columns += COLUMNS // 2
    _write(out, right, rows, columns, num_queries, num_keys, stride_oq, stride_ok, ADD, EVEN)


def mean_attention_triton(
    q: Tensor, k: Tensor, scale: float, out: Tensor | None, weight: float
) -> Tensor:
    """``weight`` times the mean over heads of ``softmax(scale q k^T)``.

    Args:
        q: ``(B, H, M, d)``, float16, bfloat16 or float32.
        k: ``(B, H, N, d)`` of the same dtype.
        scale: What the products are multiplied with before the softmax.
        out: ``(B, M, N)`` float32 with any strides, to which the result is added; None makes one.
        weight: What each row adds up to.

    Returns:
        ``out``.
    """
    q, k = contiguous_rows(q), contiguous_rows(k)
    images, heads, queries, channels = q.shape
    keys = k.shape[2]
    add = out is not None
    if out is None:
        out = torch.empty((images, queries, keys), dtype=torch.float32, device=q.device)
    maxima, reciprocals = torch.empty(
        (2, images, heads, queries), dtype=torch.float32, device=q.device
    )
    if scale < 0:
        # The largest product is to have the largest exponential.
        q, scale = -q, -scale
    scale *= log2(e)
    strides_q, strides_k, unit = _strides(q, k)
    # Half precision goes to the tensor cores as it is. Three products in TF32 are as exact as one
    # in float32, but need so many registers that tiles are smaller.
    single = q.dtype == torch.float32
    operands = {
        "CHANNELS": channels,
        "BLOCK": 16 if single else _channels_at_once(channels),
        "PRECISION": "tf32x3" if single else None,
        "UNIT": unit,
    }
    rows, columns, warps = (64, 64, 4) if single else (128, 128, 8)
    launch(
        _maxima_and_sums_kernel, (triton.cdiv(queries, rows), heads, images), q,
        q, k, maxima, reciprocals, queries, keys, *strides_q, *strides_k, *maxima.stride()[:2],
        scale,
        EVEN=keys % columns == 0, ROWS=rows, COLUMNS=columns, num_warps=warps, num_stages=3,
        **operands,
    )  # fmt: skip
    # With half as many rows, three tiles fit a processor instead of one: products of one hide the
    # exponentials of another.
    rows, columns, warps = (64, 64, 4) if single else (64, 128, 4)
    launch(
        _mean_attention_kernel, (triton.cdiv(keys, columns), triton.cdiv(queries, rows), images), q,
        q, k, maxima, reciprocals, out, heads, queries, keys, *strides_q, *strides_k,
        *maxima.stride()[:2], *out.stride(), scale, weight / heads,
        ADD=add, EVEN=queries % rows == 0 and keys % columns == 0, ROWS=rows, COLUMNS=columns,
        num_warps=warps, num_stages=3, **operands,
    )  # fmt: skip
    return out


def _strides(q: Tensor, k: Tensor) -> tuple[list[int], list[int], int]:
    """Strides over images, heads and locations, in units of 8 entries where all are whole.

    Triton knows of an argument whether 16 divides it, and heads of 40 channels follow each other
    at 40. A factor of 8 in the kernel says that 16 bytes can be loaded at once all the same.
    """
    strides_q, strides_k = q.stride()[:3], k.stride()[:3]
    unit = 8 if all(stride % 8 == 0 for stride in (*strides_q, *strides_k)) else 1
    return [stride // unit for stride in strides_q], [stride // unit for stride in strides_k], unit


def _channels_at_once(channels: int) -> int:
    """A power of two that covers few channels, or divides many; tensor cores need 16."""
    if channels <= 64:
        return max(16, int(triton.next_power_of_2(channels)))
    return max(16, min(channels & -channels, 64))
