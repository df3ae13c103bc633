"""What identifies the weights of a model in memory."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightsDigest:
    """SHA-256 of a module's parameters and buffers, computed again only when they have changed.

    It is taken of what is in memory, so that adapters loaded into a model, or another dtype,
    count too.

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
        # Every change in place counts the version up, every other change moves the data.
        state = [
            (name, each.data_ptr(), 0 if each.is_inference() else each._version, each.dtype)
            for name, each in _tensors(module)
        ]
        if self._state != state:
            digest = hashlib.sha256()
            for name, each in sorted(_tensors(module), key=lambda pair: pair[0]):
                digest.update(f"{name} {tuple(each.shape)} {each.dtype}".encode())
                flat = each.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy().data)
            self._state, self._digest = state, digest.hexdigest()
        return self._digest


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
