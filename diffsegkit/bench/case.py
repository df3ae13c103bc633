"""What a benchmark is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

Size: TypeAlias = Mapping[str, int | str]
"""What time and memory depend on, by name; a part of every row."""

Role = Literal["ours", "baseline", "floor", "part"]
"""``"ours"`` is what is measured, ``"baseline"`` another way to the same result. A ``"floor"`` does
only what no way can do without, and a ``"part"`` is one step of ours: neither has the whole result,
so neither is compared with it."""


@dataclass(frozen=True)
class Setting:
    """Where and how large.

    Args:
        size: One of the case's.
        device: A CPU or a GPU.
        folder: What :attr:`Case.share` has written.
    """

    size: Size
    device: torch.device
    folder: Path | None = None

    def __getitem__(self, name: str) -> int:
        """A number of the size."""
        return int(self.size[name])


def as_they_are(inputs: Any) -> Any:  # noqa: ANN401
    """The inputs, for contenders that need nothing else.

    Args:
        inputs: Whatever the case makes.
    """
    return inputs


@dataclass(frozen=True)
class Contender:
    """One way to compute a case's result.

    Args:
        name: For people.
        role: What it is compared for.
        run: What is measured, from what ``prepare`` gives to the result.
        tolerance: How far the result may be from ours; see :attr:`Case.difference`.
        prepare: Makes of the case's inputs what ``run`` takes, such as a loaded model. Neither its
            time counts nor what it keeps in memory.
    """

    name: str
    role: Role
    run: Callable[[Any], Any]
    tolerance: float | None = None
    prepare: Callable[[Any], Any] = as_they_are


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Args:
        sizes: What is measured on a device; less on a CPU where it would take minutes.
        inputs: Makes the inputs, the same each time and on every device.
        contenders: On a device. The first one of ours is what the others are compared with.
        difference: How far the second result is from the first, which is ours.
        requires: Modules beyond diffsegkit's own dependencies.
        extra: The extra that brings them.
        share: Writes into a folder what is the same for all contenders and takes long to make.
    """

    sizes: Callable[[torch.device], Sequence[Size]]
    inputs: Callable[[Setting], Any]
    contenders: Callable[[torch.device], Sequence[Contender]]
    difference: Callable[[Any, Any], float]
    requires: tuple[str, ...] = ()
    extra: str = ""
    share: Callable[[Path], None] | None = None
