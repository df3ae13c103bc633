"""The tokens of the empty prompt, which need no vocabulary."""

import torch
from torch import Tensor

from diffsegkit.errors import WeightsError

VOCABULARY = 49408
"""How many tokens CLIP has; where a text begins and ends are its last two."""

_BEGIN, _END = VOCABULARY - 2, VOCABULARY - 1


class EmptyPromptTokenizer:
    """Tokenizer of a model that comes without a vocabulary, as a single file does.

    Args:
        open_clip: Whether the encoder is OpenCLIP's (SD 2.x, the second of SDXL), which pads with
            token 0, and not OpenAI's (SD 1.x, the first of SDXL), which repeats the end.
    """

    def __init__(self, open_clip: bool) -> None:
        self._pad = 0 if open_clip else _END

    def __call__(self, texts: list[str], length: int) -> Tensor:
        """``(B, length)`` int64.

        Args:
            texts: Empty ones.
            length: How many tokens the encoder takes.

        Raises:
            WeightsError: If a text is not empty.
        """
        if any(texts):
            raise WeightsError(
                "Expected the empty prompt, because a single file has no vocabulary, but got "
                f"{next(filter(None, texts))!r}; name a folder or hub id that has a tokenizer with "
                "--source.config."
            )
        row = [_BEGIN, _END, *[self._pad] * (length - 2)]
        return torch.tensor([row] * len(texts))

    def spans(self, text: str, length: int) -> tuple[tuple[int, int], ...]:  # noqa: ARG002
        """No token of the empty prompt stands for anything.

        Args:
            text: The empty one.
            length: How many tokens the encoder takes.
        """
        return ((0, 0),) * length
