"""Round 0 of DiffSeg's merging: each anchor absorbs the maps close to it."""

import torch
from torch import Tensor

from diffsegkit.kernels.absorb.reference import add_sums_reference, mark_close_reference
from diffsegkit.kernels.backend import Backend, use_triton
from diffsegkit.kernels.pairwise_kl import Precision, check_precision

__all__ = ["absorb"]


def absorb(
    anchors: Tensor,
    maps: Tensor,
    threshold: float,
    *,
    locations: Tensor | None = None,
    values: Tensor | None = None,
    out: Tensor | None = None,
    backend: Backend = "auto",
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor]:
    """Which maps are closer to each anchor than the threshold, and the sums of these.

    A sum divided by the number of its members is the proposal of round 0 (paper, section 3.3).
    The distances, those of :func:`pairwise_kl`, are compared where they are computed and never
    stored.

    Args:
        anchors: ``(M, N)``, floating point; each row a distribution. A row with NaN absorbs
            nothing.
        maps: ``(K, N)`` likewise; a row with NaN is absorbed by nothing.
        threshold: In nats, above 0; what is exactly as far away stays out.
        locations: ``(M,)`` int64, the row of ``maps`` in which each anchor lies. That row is
            always its member, since D(x, x) = 0 is computed only up to rounding. A number below 0
            or from K on says that it is not among these maps.
        values: ``(K, N)``, what is added up if not ``maps`` themselves; entries between 0 and 1.
        out: ``(M, N)`` float32 (float64 if the inputs are) with contiguous rows, to which the
            sums are added, so that maps can come in parts.
        backend: ``"auto"``, ``"torch"`` or ``"triton"``.
        precision: Of the distances, see :func:`pairwise_kl`; sums are always float32.

    Returns:
        Members ``(M, K)`` bool, and the sums ``(M, N)``: ``out``, or a new tensor, without
        gradient.

    Raises:
        ValueError: If shapes, dtypes or devices do not agree, or an option is unknown.
        BackendError: If ``backend="triton"`` cannot run here.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.0, 1.0]])
        >>> members, sums = absorb(maps[:1], maps, 0.1)
        >>> members
        tensor([[ True,  True, False]])
        >>> sums / members.sum(1, keepdim=True)
        tensor([[0.5500, 0.4500]])
    """
    values = maps if values is None else values
    _check_inputs(anchors, maps, values, locations)
    check_precision(precision)
    if not threshold > 0:
        raise ValueError(f"Expected argument `threshold` to be above 0, but got {threshold}.")
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    if out is None:
        out = torch.zeros(anchors.shape, dtype=dtype, device=maps.device)
    elif out.shape != anchors.shape or out.dtype != dtype or out.stride(-1) != 1:
        raise ValueError(
            f"Expected argument `out` to be {dtype} of shape {tuple(anchors.shape)} with "
            f"contiguous rows, but got {out.dtype} of shape {tuple(out.shape)}."
        )
    members = torch.empty((len(anchors), len(maps)), dtype=torch.bool, device=maps.device)
    with torch.no_grad():
        if use_triton("absorb", backend, maps):
            from diffsegkit.kernels.absorb.triton import add_sums_triton, mark_close_triton

            mark_close_triton(anchors, maps, threshold, members, split=precision == "float32")
            _mark_own(members, locations)
            add_sums_triton(members, values, out)
        else:
            mark_close_reference(anchors.to(dtype), maps.to(dtype), threshold, members)
            _mark_own(members, locations)
            add_sums_reference(members, values.to(dtype), out)
    return members, out


def _mark_own(members: Tensor, locations: Tensor | None) -> None:
    """Make each anchor its own member, without asking the device which are among the maps."""
    if locations is None or members.shape[1] == 0:
        return
    among = (locations >= 0) & (locations < members.shape[1])
    places = locations.clamp(0, members.shape[1] - 1)[:, None]
    members.scatter_(1, places, members.gather(1, places) | among[:, None])


def _check_inputs(anchors: Tensor, maps: Tensor, values: Tensor, locations: Tensor | None) -> None:
    for name, tensor in (("anchors", anchors), ("maps", maps), ("values", values)):
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise ValueError(
                f"Expected argument `{name}` to be floating point of shape (rows, N), but got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}."
            )
        if tensor.device != maps.device or (tensor.dtype == torch.float64) != (
            maps.dtype == torch.float64
        ):
            raise ValueError(
                f"Expected argument `{name}` to be on the device of `maps`, and float64 only if "
                f"`maps` is, but got {tensor.dtype} on {tensor.device} and {maps.dtype} on "
                f"{maps.device}."
            )
    if anchors.shape[1] != maps.shape[1] or values.shape != maps.shape:
        raise ValueError(
            "Expected arguments `anchors`, `maps` and `values` to have one number of locations, "
            f"and as many values as maps, but got shapes {tuple(anchors.shape)}, "
            f"{tuple(maps.shape)} and {tuple(values.shape)}."
        )
    if locations is not None and (
        locations.shape != anchors.shape[:1] or locations.dtype != torch.int64
    ):
        raise ValueError(
            f"Expected argument `locations` to be int64 of shape ({len(anchors)},), but got "
            f"{locations.dtype} of shape {tuple(locations.shape)}."
        )
