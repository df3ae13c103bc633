"""Attention computed once for many methods."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.interfaces import AggregatedAttention, Aggregator, AttentionSource, SourceOutput


class SharedSource(AttentionSource):
    """A source that remembers its last batch, so that several methods can ask it in turn.

    Args:
        source: Whose attention it is.
    """

    def __init__(self, source: AttentionSource) -> None:
        super().__init__()
        self.source = source
        self.size_multiple = source.size_multiple
        self._images: Tensor | None = None
        self._prompts: list[str] | None = None
        self._output: SourceOutput | None = None

    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """The source's output; computed only if the images or prompts are not those of before.

        Args:
            images: ``(B, 3, H, W)``.
            prompts: One per image, or None.
        """
        texts = None if prompts is None else list(prompts)
        known = (
            self._images is not None
            and self._images.shape == images.shape
            and self._images.dtype == images.dtype
            and torch.equal(self._images, images)
            and self._prompts == texts
        )
        if not known or self._output is None:
            self._output = None  # let go of the old before the new is made
            output = self.source(images, prompts=prompts)
            self._images, self._prompts, self._output = images, texts, output
        assert self._output is not None
        return self._output

    def fingerprint(self) -> str:
        """The source's."""
        return self.source.fingerprint()

    def default_dtype(self, device: torch.device) -> torch.dtype | None:
        """The source's.

        Args:
            device: Where the source is going to be.
        """
        return self.source.default_dtype(device)


class SharedAggregator(Aggregator):
    """An aggregator that remembers its last result.

    Args:
        aggregator: Whose result it is.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        super().__init__()
        self.aggregator = aggregator
        self._attention: Sequence[object] | None = None
        self._result: AggregatedAttention | None = None

    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """The aggregator's result; computed only if the attention is not that of before.

        Args:
            output: What the source gave.
        """
        # By identity: a shared source gives the same objects again.
        if self._result is None or self._attention is not output.attention:
            self._result = None
            result = self.aggregator(output)
            self._attention, self._result = output.attention, result
        assert self._result is not None
        return self._result
