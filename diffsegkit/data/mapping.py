"""From the values that a label file stores to classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsegkit.data.sample import IGNORE
from diffsegkit.errors import DatasetError

_SHOWN = 8  # unknown values that a message lists
_UNLISTED = IGNORE - 1


@dataclass(frozen=True)
class ClassMapping:
    """Which class each stored value stands for.

    Args:
        classes: The names of the classes, by index.
        values: Class index, or :data:`~diffsegkit.data.IGNORE`, by stored value.
        colours: The same by colour, ``0xrrggbb``, for coloured label images.
        ignore_unlisted: Whether other values are ignored; otherwise they are an error.

    Example:
        >>> import numpy as np
        >>> mapping = ClassMapping(("road", "car"), {7: 0, 26: 1, 255: IGNORE})
        >>> mapping.apply(np.array([[7, 26, 255]]), Path("label.png")).tolist()
        [[0, 1, -1]]
    """

    classes: tuple[str, ...]
    values: Mapping[int, int]
    colours: Mapping[int, int] = field(default_factory=dict)
    ignore_unlisted: bool = False

    def apply(self, stored: NDArray[np.integer[Any]], path: Path) -> Tensor:
        """Turn stored values into classes.

        Args:
            stored: ``(H, W)`` values or ``(H, W, 3)`` uint8 colours.
            path: The file they come from, for messages.

        Returns:
            ``(H, W)`` int64.

        Raises:
            DatasetError: If a value is not listed.
        """
        coloured = stored.ndim == 3
        # Many tools save grey label maps as RGB.
        if coloured and not self.colours and bool((stored == stored[..., :1]).all()):
            stored, coloured = stored[..., 0], False
        table = self.colours if coloured else self.values
        if coloured:
            red, green, blue = np.moveaxis(stored.astype(np.int64), -1, 0)
            stored = red << 16 | green << 8 | blue
        labels = _look_up(stored, table, IGNORE if self.ignore_unlisted else _UNLISTED)
        if not self.ignore_unlisted:
            unknown = np.unique(stored[labels == _UNLISTED]).tolist()
            if unknown:
                raise DatasetError(_unknown_values(path, unknown, coloured, bool(table)))
        return torch.from_numpy(labels)

    def digest(self) -> str:
        """A SHA-256 of the whole mapping, which says whether two results used the same."""
        parts = (
            self.classes,
            sorted(self.values.items()),
            sorted(self.colours.items()),
            self.ignore_unlisted,
        )
        return sha256(repr(parts).encode()).hexdigest()


def _look_up(
    stored: NDArray[np.integer[Any]], table: Mapping[int, int], default: int
) -> NDArray[np.int64]:
    keys = np.array(sorted(table), dtype=np.int64)
    if not keys.size:
        return np.full(stored.shape, default, dtype=np.int64)
    classes = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    stored = stored.astype(np.int64, copy=False)
    position = np.searchsorted(keys, stored).clip(max=len(keys) - 1)
    return np.where(keys[position] == stored, classes[position], default)


def _unknown_values(path: Path, unknown: list[int], coloured: bool, listed: bool) -> str:
    kind = "colours" if coloured else "values"
    shown = ", ".join(f"#{value:06x}" if coloured else str(value) for value in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    if not listed:
        return (
            f"The label image {str(path)!r} holds {kind} ({shown}{more}), but no {kind} are mapped "
            "to classes; give a mapping that lists them."
        )
    return f"The label file {str(path)!r} holds {kind} that stand for no class: {shown}{more}."
