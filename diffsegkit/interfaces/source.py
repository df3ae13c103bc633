"""The part that knows the backbone."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from diffsegkit.interfaces.attention import SourceOutput


class AttentionSource(nn.Module, ABC):
    """Turns images into self-attention maps. Nothing else knows the backbone.

    A subclass writes :meth:`forward`. It sets :attr:`size_multiple` if its grids ask for it, and
    :meth:`fingerprint` if its output may be cached.
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
