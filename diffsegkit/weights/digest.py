"""What identifies the weights of a model in memory."""

import hashlib
from collections.abc import Iterable, Iterator
from math import isfinite

import torch
from torch import Tensor, nn

_SAMPLES = 64  # of each tensor, to see whether it has changed


class WeightsDigest:
    """SHA-256 of a module's parameters and buffers, computed again only when they have changed.

    It is taken of what is in memory, so that weights merged into a model, or another dtype, count
    too. Whether they have changed is asked of a sample of each tensor: a change of single entries
    through ``.data``, which nothing keeps a record of, can be missed.

    Example:
        >>> from torch import nn
        >>> layer, digest = nn.Linear(2, 2), WeightsDigest()
        >>> before = digest(layer)
        >>> before == digest(layer)
        True
        >>> nn.init.ones_(layer.weight) is None or before == digest(layer)
        False
    """

    def __init__(self) -> None:
        self._state: object = None
        self._digest = ""

    def __call__(self, module: nn.Module) -> str:
        """Hexadecimal.

        Args:
            module: Whose weights.
        """
        # A change in place counts the version up, or, through `.data`, shows in the sample; any
        # other change moves the data.
        state = (
            [
                (name, each.data_ptr(), 0 if each.is_inference() else each._version, each.dtype)
                for name, each in _tensors(module)
            ],
            _samples(each for _, each in _tensors(module)),
        )
        if self._state != state:
            digest = hashlib.sha256()
            for name, each in sorted(_tensors(module), key=lambda pair: pair[0]):
                digest.update(f"{name} {tuple(each.shape)} {each.dtype}".encode())
                flat = each.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy().data)
            self._state, self._digest = state, digest.hexdigest()
        return self._digest


def _samples(tensors: Iterable[Tensor]) -> list[float]:
    """A number for each tensor, of few of its entries; one transfer for all."""
    sums = [
        each.detach().flatten()[:: max(1, each.numel() // _SAMPLES)].double().sum()
        for each in tensors
        if each.numel()
    ]
    by_device: dict[torch.device, list[Tensor]] = {}
    for each in sums:
        by_device.setdefault(each.device, []).append(each)
    found = [value for own in by_device.values() for value in torch.stack(own).tolist()]
    # What is not a number equals nothing, and would be digested every time.
    return [value if isfinite(value) else -1.0 for value in found]


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
