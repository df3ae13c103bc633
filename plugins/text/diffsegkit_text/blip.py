"""Captions by BLIP."""

import hashlib

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.weights import WeightsDigest
from diffsegkit_text.captioned import Captioner
from diffsegkit_text.models import find, import_transformers, load_model

# OpenAI's, which BLIP was trained with.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class BLIPCaptioner(Captioner):
    """Captions of BLIP (Li et al., ICML 2022), as the original DiffSeg takes them.

    Without sampling, so that equal images have equal captions.

    Args:
        model: A hub id, or a folder in the layout of the hub with safetensors.
        revision: Branch, tag or commit on the hub.
        max_tokens: How many tokens a caption has at the most.

    Raises:
        ComponentError: If transformers is not installed.
        WeightsError: If the model cannot be loaded whole.
        DownloadError: If it has to be fetched and cannot be.
        ValueError: If ``max_tokens`` is below 1.
    """

    def __init__(
        self,
        model: str = "Salesforce/blip-image-captioning-base",
        revision: str | None = None,
        max_tokens: int = 20,
    ) -> None:
        super().__init__()
        if max_tokens < 1:
            raise ValueError(f"Expected argument `max_tokens` to be at least 1, got {max_tokens}.")
        import_transformers(type(self).__name__)
        folder = find(model, revision, "--source.captioner.model")
        self.model, self._tokenizer = load_model(
            "BlipForConditionalGeneration", folder, "AutoTokenizer"
        )
        self.max_tokens = max_tokens
        self._digest = WeightsDigest()

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[str]:
        """Caption.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB; squashed to the model's square.

        Returns:
            B captions, stripped.
        """
        side = self.model.config.vision_config.image_size
        parameter = next(self.model.parameters())
        pixels = images.to(parameter.device, torch.float32)
        pixels = functional.interpolate(
            pixels, size=(side, side), mode="bicubic", antialias=True
        ).clamp(0, 1)
        mean, std = (pixels.new_tensor(each)[:, None, None] for each in (_MEAN, _STD))
        tokens = self.model.generate(
            pixel_values=((pixels - mean) / std).to(parameter.dtype),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
        )
        return [
            text.strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        ]

    def fingerprint(self) -> str:
        """The weights by their contents, and the length of captions."""
        content = f"{self._digest(self.model)} {self.max_tokens}"
        return f"BLIPCaptioner-1({hashlib.sha256(content.encode()).hexdigest()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"max_tokens={self.max_tokens}"
