"""Load samples, in this process or in workers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from diffsegkit.data.sample import Sample
from diffsegkit.data.sampler import PADDING
from diffsegkit.errors import DiffSegKitError

_Item = Sample | DiffSegKitError | None


class Samples(Dataset[_Item]):
    """The samples of a data module for PyTorch's loader.

    Args:
        load: From index to sample.
        length: How many there are.
    """

    def __init__(self, load: Callable[[int], Sample], length: int) -> None:
        self.load = load
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> _Item:
        if index == PADDING:
            return None
        try:
            return self.load(index)
        except DiffSegKitError as error:
            return error


def collate(items: Sequence[_Item]) -> list[Sample] | DiffSegKitError:
    """A batch without padding, or the first error in it.

    Args:
        items: What :class:`Samples` gave.
    """
    for item in items:
        if isinstance(item, DiffSegKitError):
            return item
    return [item for item in items if isinstance(item, Sample)]


class SampleLoader(DataLoader[Any]):
    """PyTorch's loader, raising errors as they were: its own come out of workers as tracebacks."""

    def __iter__(self) -> Iterator[list[Sample]]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, DiffSegKitError):
                raise batch
            yield batch
