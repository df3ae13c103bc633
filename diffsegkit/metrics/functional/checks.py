"""Checks on the label maps that the metrics are given."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_labels(labels: object, name: str) -> Tensor:
    """Raise unless ``labels`` is a tensor of integers.

    Args:
        labels: The value to check.
        name: What to call it in the message.

    Returns:
        The same labels as int64.

    Raises:
        TypeError: If it is no tensor, or holds anything but integers (booleans are none).
    """
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"Expected argument `{name}` to be a tensor of integers, but got "
            f"{type(labels).__name__}."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(
            f"Expected argument `{name}` to hold integers, but got {labels.dtype}. "
            "Label maps are integers: convert with `.long()` if the values are whole."
        )
    return labels.long()


def check_pair(preds: object, target: object, name: str = "target") -> tuple[Tensor, Tensor]:
    """Raise unless two label maps have one shape.

    Args:
        preds: The segmentation.
        target: The ground truth.
        name: What to call the ground truth in the message.

    Returns:
        Both as int64, on the device of ``preds``.

    Raises:
        TypeError: If one is not a tensor of integers.
        ValueError: If their shapes differ.
    """
    segments, regions = check_labels(preds, "preds"), check_labels(target, name)
    if segments.shape != regions.shape:
        raise ValueError(
            f"Expected argument `preds` to have the shape of `{name}`, {tuple(regions.shape)}, "
            f"but got {tuple(segments.shape)}."
        )
    return segments, regions.to(segments.device)


def annotations(preds: Tensor, targets: object) -> list[Any]:
    """One map per annotator, from a map, a stack of maps or a sequence of maps.

    Args:
        preds: The segmentation, which tells a map from a stack of maps.
        targets: ``(H, W)``, ``(A, H, W)`` or A maps ``(H, W)``.

    Returns:
        A maps.

    Raises:
        TypeError: If it is neither a tensor nor a sequence.
        ValueError: If there is no annotator, or the tensor has neither as many axes as
            ``preds`` nor one more.
    """
    if isinstance(targets, Tensor):
        if targets.ndim not in (preds.ndim, preds.ndim + 1):
            raise ValueError(
                f"Expected argument `targets` to have {preds.ndim} axes, or {preds.ndim + 1} for "
                f"several annotators, but got shape {tuple(targets.shape)}."
            )
        maps = [targets] if targets.ndim == preds.ndim else list(targets)
    elif isinstance(targets, Sequence) and not isinstance(targets, str):
        maps = list(targets)
    else:
        raise TypeError(
            "Expected argument `targets` to be a tensor or a sequence of tensors, but got "
            f"{type(targets).__name__}."
        )
    if not maps:
        raise ValueError("Expected argument `targets` to hold at least one map, but got none.")
    return maps


def check_number(value: object, name: str, least: int = 1) -> int:
    """Raise unless ``value`` is an integer of at least ``least``.

    Args:
        value: The value to check.
        name: What to call it in the message.
        least: The lowest allowed.

    Returns:
        The number.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(
            f"Expected argument `{name}` to be an integer, at least {least}, but got {value!r}."
        )
    return int(value)


def check_ignore_index(value: object) -> int | None:
    """Raise unless ``value`` can be a label to leave out.

    Args:
        value: The value to check: an integer, or None for no label.

    Returns:
        The label.

    Raises:
        TypeError: If it is anything else.
    """
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(
            f"Expected argument `ignore_index` to be an integer or None, but got {value!r}."
        )
    return int(value)
