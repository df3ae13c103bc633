"""A source whose prompts are captions of the images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsegkit import AttentionSource, SourceOutput
from diffsegkit.registry import load
from diffsegkit.weights import ModelFiles


class Captioner(nn.Module, ABC):
    """Says in a few words what is in an image."""

    @abstractmethod
    def forward(self, images: Tensor) -> list[str]:
        """Caption.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB.

        Returns:
            B captions.
        """

    def fingerprint(self) -> str:
        """Identify weights and settings; the empty string says that nothing may be cached."""
        return ""


class CaptionedSource(AttentionSource):
    """Captions each image and gives the caption to another source as its prompt.

    So nouns need not be given: ``--source CaptionedSource --source.source StableDiffusionSource
    --source.source.cross true --namer CrossAttentionNamer``. Prompts that are given with the images
    are taken as they are.

    Args:
        source: The source that reads prompts.
        captioner: Where captions come from; :class:`BLIPCaptioner` by default. It sees what the
            source sees: the photo at the segmenter's size, cropped if the segmenter crops.

    Raises:
        TypeError: If ``source`` or ``captioner`` is no such part.
    """

    def __init__(self, source: AttentionSource, captioner: Captioner | None = None) -> None:
        super().__init__()
        if not isinstance(source, AttentionSource):
            raise TypeError(
                f"Expected argument `source` to be an AttentionSource, but got {source!r}."
            )
        if captioner is not None and not isinstance(captioner, Captioner):
            raise TypeError(
                f"Expected argument `captioner` to be a Captioner or None, but got {captioner!r}."
            )
        if captioner is None:
            from diffsegkit_text.blip import BLIPCaptioner

            captioner = BLIPCaptioner()
        self.source = source
        self.captioner = captioner
        self.size_multiple = source.size_multiple

    @torch.no_grad()
    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """Caption, and extract.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB.
            prompts: In place of captions.

        Returns:
            What the source gives for these prompts.
        """
        texts = self.captioner(images) if prompts is None else list(prompts)
        output: SourceOutput = self.source(images, prompts=texts)
        return output

    def fingerprint(self) -> str:
        """The source's and the captioner's; empty if either's is."""
        parts = (self.source.fingerprint(), self.captioner.fingerprint())
        return f"CaptionedSource-1({', '.join(parts)})" if all(parts) else ""

    def default_dtype(self, device: torch.device) -> torch.dtype | None:
        """The source's.

        Args:
            device: Where it is going to be.
        """
        return self.source.default_dtype(device)

    @classmethod
    def weights(cls, **options: Any) -> ModelFiles | None:  # noqa: ANN401
        """The files of the source within; those of the captioner are fetched when it is made.

        Args:
            options: The arguments of the constructor.
        """
        source = options.get("source")
        if not isinstance(source, Mapping) or "class_path" not in source:
            return None
        within: type[AttentionSource] = load("sources", source["class_path"])
        return within.weights(**source.get("init_args", {}))
