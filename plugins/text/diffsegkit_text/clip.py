"""Names by CLIP."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Namer
from diffsegkit.errors import UsageError
from diffsegkit_text.models import find, import_transformers, load_model

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPNamer(Namer):
    """Each segment gets the class name that CLIP (Radford et al., 2021) finds it most like.

    A segment is shown to CLIP as the square around its bounding box, at the size that CLIP was
    trained for, everything that is not of the segment dimmed towards CLIP's mean colour. Its
    embedding is compared, by the cosine, with those of the names, each the mean over ``templates``.

    Args:
        names: The class names.
        model: A hub id, or a folder in the layout of the hub with safetensors.
        revision: Branch, tag or commit on the hub.
        templates: Sentences with ``{}`` where the name goes.
        context: How much is left of what is not of the segment, from 0 to 1.
        batch_size: How many segments are shown to CLIP at a time.

    Raises:
        ComponentError: If transformers is not installed.
        WeightsError: If the model cannot be loaded whole.
        DownloadError: If it has to be fetched and cannot be.
        ValueError: If an argument is out of its range.
        UsageError: When called, if there are no images.
    """

    def __init__(
        self,
        names: Sequence[str],
        model: str = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        revision: str | None = None,
        templates: Sequence[str] = ("a photo of a {}.",),
        context: float = 0.2,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        if isinstance(names, str) or not names or not all(names):
            raise ValueError(f"Expected argument `names` to be a list of names, but got {names!r}.")
        if len(set(names)) < len(names):
            raise ValueError(
                f"Expected argument `names` to hold each name once, but got {names!r}."
            )
        if isinstance(templates, str) or not templates or not all("{}" in t for t in templates):
            raise ValueError(
                "Expected argument `templates` to be a list of texts with {} in them, but got "
                f"{templates!r}."
            )
        if not 0 <= context <= 1:
            raise ValueError(f"Expected argument `context` between 0 and 1, but got {context}.")
        if batch_size < 1:
            raise ValueError(f"Expected argument `batch_size` to be at least 1, got {batch_size}.")
        import_transformers(type(self).__name__)
        folder = find(model, revision, "--namer.model")
        self.model, tokenizer = load_model("CLIPModel", folder, "AutoTokenizer")
        self.names = tuple(names)
        self.templates = tuple(templates)
        self.context = context
        self.batch_size = batch_size
        self.register_buffer("_texts", self._encode(tokenizer), persistent=False)
        self._texts: Tensor

    @torch.no_grad()
    def forward(self, labels: Tensor, *, aggregated: AggregatedAttention) -> list[list[str]]:
        """Name the segments of a batch of images.

        Args:
            labels: ``(B, H, W)`` int64, without gaps.
            aggregated: Its source has images.

        Returns:
            For each image the names of its segments.
        """
        output = aggregated.source
        if output is None or output.images is None:
            raise UsageError("CLIPNamer looks at the image, but got none; run it in a Segmenter.")
        return [self._name(own, image) for own, image in zip(labels, output.images, strict=True)]

    def scores(self, labels: Tensor, image: Tensor) -> Tensor:
        """The cosine of each segment with each name.

        Args:
            labels: ``(H, W)`` int64, without gaps.
            image: ``(3, h, w)`` in [0, 1].

        Returns:
            ``(K, len(names))`` float32.
        """
        # At the size of the label map, so that no segment is lost in shrinking it.
        pixels = functional.interpolate(
            image[None].float(), size=labels.shape, mode="bilinear", antialias=True
        )[0]
        number = int(labels.max()) + 1
        embedded = []
        for start in range(0, number, self.batch_size):
            ids = range(start, min(start + self.batch_size, number))
            crops = torch.stack([self._crop(pixels, labels == label) for label in ids])
            embedded.append(self._embed(crops))
        found: Tensor = torch.cat(embedded) @ self._texts.mT.float()
        return found

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"names={self.names}, templates={self.templates}, context={self.context}"

    def _name(self, labels: Tensor, image: Tensor) -> list[str]:
        return [self.names[place] for place in self.scores(labels, image).argmax(1).tolist()]

    def _crop(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """``(3, side, side)``: the square around a segment, the rest of the image dimmed."""
        mean = pixels.new_tensor(_MEAN)[:, None, None]
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        side = max(bottom - top, right - left)
        box = pixels[:, top:bottom, left:right]
        kept = torch.where(mask[top:bottom, left:right], box, mean + self.context * (box - mean))
        square = mean.expand(3, side, side).clone()
        down, across = (side - (bottom - top)) // 2, (side - (right - left)) // 2
        square[:, down : down + bottom - top, across : across + right - left] = kept
        wanted = self.model.config.vision_config.image_size
        resized: Tensor = functional.interpolate(
            square[None], size=(wanted, wanted), mode="bicubic", antialias=True
        )[0]
        return resized.clamp(0, 1)

    def _embed(self, crops: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        mean, std = (crops.new_tensor(each)[:, None, None] for each in (_MEAN, _STD))
        pixels = ((crops - mean) / std).to(parameter.device, parameter.dtype)
        vision = self.model.vision_model(pixel_values=pixels).pooler_output
        embedded: Tensor = self.model.visual_projection(vision).float()
        return functional.normalize(embedded, dim=1)

    @torch.no_grad()
    def _encode(self, tokenizer: object) -> Tensor:
        """``(len(names), D)``: unit embeddings of the names."""
        rows = []
        for name in self.names:
            texts = [template.replace("{}", name) for template in self.templates]
            tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")  # type: ignore[operator]
            text = self.model.text_model(**tokens).pooler_output
            embedded = functional.normalize(self.model.text_projection(text).float(), dim=1)
            rows.append(functional.normalize(embedded.mean(0), dim=0))
        return torch.stack(rows)
