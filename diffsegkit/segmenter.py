"""The four parts in a row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from diffsegkit.errors import ImageError
from diffsegkit.images import ImageLike, centre_crop, input_size, load_images, resize_image
from diffsegkit.images.geometry import CropBox, Resize
from diffsegkit.interfaces import (
    AggregatedAttention,
    Aggregator,
    Assigner,
    AttentionSource,
    Merger,
    Namer,
    Proposals,
    SourceOutput,
)
from diffsegkit.interfaces.parts import OPTIONAL_PARTS, PARTS
from diffsegkit.segmentation import Segmentation, close_gaps, join_names

if TYPE_CHECKING:
    from diffsegkit.presets import Preset


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An image as the source will see it, and where it came from."""

    pixels: Tensor
    image_size: tuple[int, int]
    crop_box: CropBox | None

    @property
    def label_size(self) -> tuple[int, int]:
        if self.crop_box is None:
            return self.image_size
        left, top, right, bottom = self.crop_box
        return bottom - top, right - left


class Segmenter(nn.Module):
    """Segments photos: source, aggregator, merger and assigner in a row.

    Each step is a method of its own (:meth:`extract`, :meth:`aggregate`, :meth:`merge`,
    :meth:`assign`), so that attention computed once can be merged many times.

    The source runs on the segmenter's device and in its dtype (``segmenter.to("cuda",
    torch.float16)``); whatever follows computes in float32.

    Args:
        source: From images to self-attention.
        aggregator: To one grid.
        merger: To a few proposals.
        assigner: To pixels.
        namer: What names segments, after which those of one name are one; by default they have no
            names.
        image_size: The longer side at which the source sees an image, in pixels; both sides
            become multiples of the source's ``size_multiple``.
        resize: ``"fit"`` keeps the aspect ratio on a non-square grid, ``"square"`` squashes,
            ``"crop"`` takes the centre square, as the original does.
        antialias: Whether shrinking averages over all pixels. The original does not.

    Raises:
        TypeError: If a part is not an instance of its base class.
        ValueError: If ``image_size`` is below 1 or ``resize`` unknown.

    Example:
        >>> from diffsegkit import Segmenter
        >>> segmenter = Segmenter.from_preset("affinity", merger={"thresholds": [0.8, 0.8]})
        >>> segmenter.merger.thresholds
        (0.8, 0.8)
    """

    def __init__(
        self,
        source: AttentionSource,
        aggregator: Aggregator,
        merger: Merger,
        assigner: Assigner,
        *,
        namer: Namer | None = None,
        image_size: int = 512,
        resize: Resize = "fit",
        antialias: bool = False,
    ) -> None:
        super().__init__()
        parts = (source, aggregator, merger, assigner)
        for (name, base), part in zip(PARTS.items(), parts, strict=True):
            if not isinstance(part, base):
                raise TypeError(
                    f"Expected argument `{name}` to be an instance of {base.__name__}, but got "
                    f"{part!r}."
                )
        if namer is not None and not isinstance(namer, OPTIONAL_PARTS["namer"]):
            raise TypeError(f"Expected argument `namer` to be a Namer or None, but got {namer!r}.")
        if not isinstance(image_size, int) or image_size < 1:
            raise ValueError(
                f"Expected argument `image_size` to be a positive integer, but got {image_size}."
            )
        if resize not in get_args(Resize):
            raise ValueError(
                f"Expected argument `resize` to be one of {get_args(Resize)}, but got {resize!r}."
            )
        self.source = source
        self.aggregator = aggregator
        self.merger = merger
        self.assigner = assigner
        self.namer = namer
        self.image_size = image_size
        self.resize: Resize = resize
        self.antialias = antialias
        self.configuration: Mapping[str, Any] = {}
        """The resolved configuration, if it was built from a preset; of parts that were given
        as instances it has only what they show of themselves."""
        # A module without weights has no device or dtype to ask for; this one remembers both.
        self.register_buffer("_placement", torch.empty(0), persistent=False)
        self._placement: Tensor

    @classmethod
    def from_preset(cls, preset: str | Preset, **overrides: Any) -> Segmenter:  # noqa: ANN401
        """Build a complete segmenter from a named configuration.

        Args:
            preset: A preset's name (``diffsegkit list presets``), a dotted path to one, or one.
            overrides: Parts to exchange, by ``source``, ``aggregator``, ``merger``,
                ``assigner`` or ``namer``: an instance, a class, a name or dotted path, or
                ``{"class_path": ..., "init_args": {...}}``; or a mapping of arguments to change
                in the preset's own part; and ``image_size``, ``resize``, ``antialias``. The name
                of the preset's own class keeps the preset's arguments.

        Returns:
            A segmenter on the CPU in float32.

        Raises:
            ComponentError: If the preset or a part is unknown or cannot be imported.
            UsageError: If an argument is unknown or has a wrong type.
        """
        from diffsegkit.configuration import segmenter_from_preset

        return segmenter_from_preset(preset, overrides)

    @torch.no_grad()
    def forward(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        prompts: Sequence[str] | None = None,
        num_segments: Sequence[int] | None = None,
        batch_size: int = 4,
    ) -> list[Segmentation]:
        """Segment one image or many, of any sizes.

        Images that the source sees at one size go through it together.

        Args:
            images: One image or several, of any kind :func:`diffsegkit.load_image` takes.
            prompts: One text per image, for sources that read text.
            num_segments: One number per image, for oracle mergers.
            batch_size: How many images go through the source at once, at the most. It changes
                speed and memory, not results.

        Returns:
            One result per image, in their order.

        Raises:
            ImageError: If there is no image, or one cannot be read.
            ValueError: If there is not one prompt, or number of segments, per image.
        """
        if batch_size < 1:
            raise ValueError(f"Expected argument `batch_size` to be positive, got {batch_size}.")
        with self._timed() as prepare_time:
            prepared = self._prepare_all(images)
        _check_one_per_image("prompts", prompts, len(prepared))
        _check_one_per_image("num_segments", num_segments, len(prepared))
        prepare = prepare_time.milliseconds / len(prepared)
        results: dict[int, Segmentation] = {}
        for batch in _batches(prepared, batch_size):
            segmentations = self._segment_batch(
                [prepared[index] for index in batch],
                None if prompts is None else [prompts[index] for index in batch],
                None if num_segments is None else [num_segments[index] for index in batch],
            )
            for index, segmentation in zip(batch, segmentations, strict=True):
                times = {"prepare": prepare, **segmentation.times}
                results[index] = replace(segmentation, times=times)
        return [results[index] for index in range(len(prepared))]

    @torch.no_grad()
    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        prompts: Sequence[str] | None = None,
    ) -> SourceOutput:
        """Attention of a batch of images.

        Args:
            images: Of any kind :meth:`forward` takes, but alike in the size at which the source
                sees them.
            prompts: One text per image, for sources that read text.

        Returns:
            The source's output; its ``images`` are what the source saw, if it says nothing else.

        Raises:
            ValueError: If the source would see the images at different sizes.
        """
        prepared = [image.pixels for image in self._prepare_all(images)]
        sizes = {tuple(pixels.shape[1:]) for pixels in prepared}
        if len(sizes) > 1:
            raise ValueError(
                f"Expected images that the source sees at one size, but got {sorted(sizes)}; "
                "extract them one by one, or use forward, or resize='square'."
            )
        _check_one_per_image("prompts", prompts, len(prepared))
        return self._extract(torch.stack(prepared), prompts)

    @torch.no_grad()
    def aggregate(self, output: SourceOutput) -> AggregatedAttention:
        """Bring the attention to one grid.

        Args:
            output: What :meth:`extract` gave.

        Returns:
            ``(B, N, N)``; its ``source`` is ``output``.
        """
        aggregated: AggregatedAttention = self.aggregator(output)
        _check_result(self.aggregator, aggregated, AggregatedAttention)
        return aggregated if aggregated.source is not None else replace(aggregated, source=output)

    @torch.no_grad()
    def merge(
        self, aggregated: AggregatedAttention, *, num_segments: Sequence[int] | None = None
    ) -> list[Proposals]:
        """Merge the maps of each image into proposals.

        Args:
            aggregated: What :meth:`aggregate` gave.
            num_segments: One number per image, for oracle mergers.

        Returns:
            One per image.
        """
        proposals: list[Proposals] = self.merger(aggregated, num_segments=num_segments)
        _check_result(self.merger, proposals, list)
        for own in proposals:
            _check_result(self.merger, own, Proposals)
        if len(proposals) != aggregated.batch_size:
            raise ValueError(
                f"{type(self.merger).__name__} gave {len(proposals)} proposals for "
                f"{aggregated.batch_size} images; a merger returns one Proposals per image."
            )
        return proposals

    @torch.no_grad()
    def assign(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        *,
        aggregated: AggregatedAttention | None = None,
    ) -> Tensor:
        """Give each pixel to a proposal.

        Args:
            proposals: What :meth:`merge` gave, B in all.
            size: ``(H, W)`` of the label maps in pixels.
            aggregated: What the proposals were merged from, for assigners that look at it.

        Returns:
            ``(B, H, W)`` int64, ids without gaps. Where a proposal wins no pixel, the ids after
            it move up; :func:`diffsegkit.close_gaps` on what ``assigner`` gives, image by image,
            gives the proposals that are left too.
        """
        labels = self._assign(proposals, size, aggregated)
        pairs = zip(labels, proposals, strict=True)
        return torch.stack([close_gaps(image, own)[0] for image, own in pairs])

    @torch.no_grad()
    def name(self, labels: Tensor, aggregated: AggregatedAttention) -> list[list[str]]:
        """Name the segments; nothing is joined yet.

        Args:
            labels: What :meth:`assign` gave, ``(B, H, W)``.
            aggregated: What :meth:`aggregate` gave.

        Returns:
            For each image the names of its segments, in the order of their ids.

        Raises:
            ValueError: If there is no namer, or it does not give a name per segment.
        """
        if self.namer is None:
            raise ValueError("Expected a segmenter with a `namer`, but this one has none.")
        names: list[list[str]] = self.namer(labels, aggregated=aggregated)
        _check_result(self.namer, names, list)
        numbers = [int(own.max()) + 1 for own in labels]
        given = [len(own) for own in names]
        if given != numbers or not all(isinstance(name, str) for own in names for name in own):
            raise ValueError(
                f"{type(self.namer).__name__} gave {given} names for images with {numbers} "
                "segments; a namer returns one text per segment."
            )
        return names

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"image_size={self.image_size}, resize={self.resize!r}, antialias={self.antialias}"

    def _prepare_all(self, images: ImageLike | Iterable[ImageLike]) -> list[_Prepared]:
        prepared = [self._prepare(image) for image in load_images(images)]
        if not prepared:
            raise ImageError("Expected at least one image, but got none.")
        return prepared

    def _prepare(self, image: Tensor) -> _Prepared:
        """Crop and resize one ``(3, H, W)`` image to what the source wants."""
        size = (image.shape[1], image.shape[2])
        crop_box = None
        if self.resize == "crop":
            crop_box = centre_crop(size)
            left, top, right, bottom = crop_box
            image = image[:, top:bottom, left:right]
        wanted = input_size(
            (image.shape[1], image.shape[2]),
            self.image_size,
            self.resize,
            self.source.size_multiple,
        )
        return _Prepared(resize_image(image, wanted, self.antialias), size, crop_box)

    def _segment_batch(
        self,
        batch: Sequence[_Prepared],
        prompts: Sequence[str] | None,
        num_segments: Sequence[int] | None,
    ) -> list[Segmentation]:
        with self._timed() as extract_time:
            output = self._extract(torch.stack([image.pixels for image in batch]), prompts)
        with self._timed() as aggregate_time:
            aggregated = self.aggregate(output)
        with self._timed() as merge_time:
            proposals = self.merge(aggregated, num_segments=num_segments)
        # Label maps have each image's own size, so they are assigned one by one.
        assigned = []
        with self._timed() as assign_time:
            for index, (image, own) in enumerate(zip(batch, proposals, strict=True)):
                part = aggregated.select(slice(index, index + 1))
                [labels] = self._assign([own], image.label_size, part)
                assigned.append(close_gaps(labels, own))
        with self._timed() as name_time:
            named = [
                self._named(labels, kept, aggregated.select(slice(index, index + 1)))
                for index, (labels, kept) in enumerate(assigned)
            ]
        times = {
            "extract": extract_time.milliseconds / len(batch),
            "aggregate": aggregate_time.milliseconds / len(batch),
            "merge": merge_time.milliseconds / len(batch),
            "assign": assign_time.milliseconds / len(batch),
        }
        if self.namer is not None:
            times["name"] = name_time.milliseconds / len(batch)
        return [
            Segmentation(labels, kept, image.image_size, image.crop_box, times, names)
            for (labels, kept, names), image in zip(named, batch, strict=True)
        ]

    def _named(
        self, labels: Tensor, proposals: Proposals, aggregated: AggregatedAttention
    ) -> tuple[Tensor, Proposals, tuple[str, ...] | None]:
        """An image's segments with their names, those of one name joined."""
        if self.namer is None:
            return labels, proposals, None
        [names] = self.name(labels[None], aggregated)
        return join_names(labels, proposals, names)

    def _extract(self, images: Tensor, prompts: Sequence[str] | None) -> SourceOutput:
        images = images.to(self._placement)
        output: SourceOutput = self.source(images, prompts=prompts)
        _check_result(self.source, output, SourceOutput)
        if output.batch_size != len(images):
            raise ValueError(
                f"{type(self.source).__name__} gave attention for {output.batch_size} images, but "
                f"got {len(images)}."
            )
        return output if output.images is not None else replace(output, images=images)

    def _assign(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        aggregated: AggregatedAttention | None,
    ) -> Tensor:
        labels: Tensor = self.assigner(proposals, size, aggregated=aggregated)
        _check_result(self.assigner, labels, Tensor)
        expected = (len(proposals), *size)
        if tuple(labels.shape) != expected or labels.dtype != torch.int64:
            raise ValueError(
                f"{type(self.assigner).__name__} gave label maps of shape {tuple(labels.shape)} "
                f"and {labels.dtype}; expected {expected} and torch.int64."
            )
        for image, own in zip(labels, proposals, strict=True):
            low, high = (int(value) for value in torch.aminmax(image))
            if low < 0 or high >= len(own):
                raise ValueError(
                    f"{type(self.assigner).__name__} gave ids between {low} and {high} for an "
                    f"image with {len(own)} proposals."
                )
        return labels

    @contextmanager
    def _timed(self) -> Iterator[_Stopwatch]:
        """Measure a stage, waiting for the GPU at its end."""
        stopwatch = _Stopwatch()
        start = time.perf_counter()
        yield stopwatch
        if self._placement.is_cuda:
            torch.cuda.synchronize(self._placement.device)
        stopwatch.milliseconds = (time.perf_counter() - start) * 1000


def _check_one_per_image(name: str, given: Sequence[Any] | None, images: int) -> None:
    if given is None:
        return
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != images:
        raise ValueError(
            f"Expected argument `{name}` to hold one entry for each of {images} images, but got "
            f"{given!r}."
        )


def _check_result(part: nn.Module, result: object, expected: type) -> None:
    if not isinstance(result, expected):
        raise TypeError(
            f"{type(part).__name__} gave a {type(result).__name__}; expected {expected.__name__}."
        )


@dataclass
class _Stopwatch:
    milliseconds: float = 0.0


def _batches(prepared: Sequence[_Prepared], batch_size: int) -> list[list[int]]:
    """Indices of images of one shape, ``batch_size`` at the most."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(prepared):
        by_shape.setdefault(tuple(image.pixels.shape), []).append(index)
    return [
        same[start : start + batch_size]
        for same in by_shape.values()
        for start in range(0, len(same), batch_size)
    ]
