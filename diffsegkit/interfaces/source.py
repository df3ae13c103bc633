"""The part that knows the backbone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsegkit.interfaces.attention import SourceOutput
from diffsegkit.weights import ModelFiles


class AttentionSource(nn.Module, ABC):
    """Turns images into self-attention maps. Nothing else knows the backbone.

    A subclass writes :meth:`forward`. It sets :attr:`size_multiple` if its grids ask for it,
    :meth:`fingerprint` if its output may be cached, :meth:`weights` if it loads a model that
    ``diffsegkit download`` should fetch, and :meth:`default_dtype` if it is better off in half
    precision on a GPU.
    """

    size_multiple: int = 1
    """Height and width of the input must be multiples of this many pixels, so that every level
    of the backbone has whole cells (64 for Stable Diffusion 1.x)."""

    @abstractmethod
    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """Extract self-attention.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB; H and W are multiples of
                :attr:`size_multiple`.
            prompts: One text per image, for backbones that read text.

        Returns:
            Attention maps at one or several grids, float32.
        """

    def fingerprint(self) -> str:
        """Identify weights and settings: equal fingerprints mean equal output for equal images.

        The default is the empty string, which says that the output must not be cached.
        """
        return ""

    @classmethod
    def weights(cls, **options: Any) -> ModelFiles | None:  # noqa: ANN401, ARG003
        """The files that a source with these arguments loads, so that they can be fetched before.

        Nothing is constructed or imported for it. The default is None: it needs no files.

        Args:
            options: The arguments of the constructor; those left out have their defaults.
        """
        return None

    def default_dtype(self, device: torch.device) -> torch.dtype | None:  # noqa: ARG002
        """What to compute in on a device, where nobody says; None leaves it as it is.

        Args:
            device: Where the source is going to be.
        """
        return None
