"""The result for one image."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from diffsegkit.files import temporary_name, write_atomically
from diffsegkit.images.geometry import CropBox
from diffsegkit.images.loading import ImageLike
from diffsegkit.interfaces import Proposals
from diffsegkit.visualization import draw_overlay


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments of one image.

    Args:
        labels: ``(H, W)`` int64, ids 0..K-1 without gaps, every pixel assigned.
        proposals: The K merged maps, id ``k`` belonging to ``proposals.maps[k]``; None for
            segments that come from elsewhere.
        image_size: ``(H, W)`` of the input in pixels, upright if EXIF data turned it.
        crop_box: Left, top, right, bottom of what was segmented, or None for all of it. Then
            ``labels`` are at the size of the crop.
        times: Milliseconds per stage, this image's share of its batch.
        names: The K names of the segments, all different; None where nothing named them.

    Example:
        >>> from diffsegkit import Segmenter
        >>> import numpy as np
        >>> photo = np.zeros((60, 80, 3), dtype=np.uint8)
        >>> photo[:, 40:] = (200, 30, 30)
        >>> [segmentation] = Segmenter.from_preset("affinity")(photo)
        >>> segmentation.labels.shape, segmentation.num_segments
        (torch.Size([60, 80]), 2)
    """

    labels: Tensor
    proposals: Proposals | None
    image_size: tuple[int, int]
    crop_box: CropBox | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Segmentation({self.num_segments} segments, {height}x{width} pixels)"

    @cached_property
    def num_segments(self) -> int:
        """K, how many segments there are."""
        return int(self.labels.max()) + 1

    def overlay(self, image: ImageLike, opacity: float = 0.5) -> Image.Image:
        """Draw the segments over the image: colours that neighbours can be told apart by, outlines.

        Names, if there are any, are written on the segments.

        Args:
            image: The image that was segmented, of any kind the segmenter takes.
            opacity: Of the colours, from 0 (outlines alone) to 1.

        Returns:
            An RGB picture of the size of ``labels``.

        Raises:
            ValueError: If the image has another size than the one segmented.
        """
        return draw_overlay(
            image, self.labels, crop_box=self.crop_box, opacity=opacity, names=self.names
        )

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Annotations in the COCO format, masks as compressed RLE.

        Args:
            image_id: The id of the image, to write into each of them.
            first_id: The id of the first annotation. In a file of many images ids must differ,
                and COCO's tools take 0 for none.

        Returns:
            One dictionary per segment, in the order of the labels: ``id``, ``image_id``,
            ``category_id`` (1 for all: segments have no class), ``area`` in pixels, ``bbox`` (x,
            y, width, height) in pixels, ``segmentation`` (``size`` and ``counts``),
            ``iscrowd``, and ``name`` if the segments have names. ``mask.decode`` of pycocotools
            gives the mask back.
        """
        coco = {"image_id": image_id, "category_id": 1, "iscrowd": 0}
        return [{**segment, **coco, "id": first_id + segment["id"]} for segment in self._segments()]

    def _segments(self) -> list[dict[str, Any]]:
        """Of each segment the label as ``id``, area, box and RLE."""
        height, width = self.labels.shape
        segments = []
        for label, counts in enumerate(_run_lengths(self._compact_labels(), self.num_segments)):
            rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            name = {} if self.names is None else {"name": self.names[label]}
            segments.append(
                {
                    "id": label,
                    **name,
                    "area": int(coco_mask.area(rle)),
                    "bbox": [int(value) for value in coco_mask.toBbox(rle)],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                }
            )
        return segments

    def save(
        self,
        directory: str | os.PathLike[str],
        stem: str,
        *,
        image: ImageLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Write ``<stem>_labels.png``, ``<stem>_overlay.png`` and ``<stem>.json``.

        Each file is complete or absent, and the JSON comes last, so its presence says that all
        of them are there.

        Args:
            directory: Where to; it is made if need be.
            stem: The files' common name.
            image: The image that was segmented; without it there is no overlay.
            metadata: More entries for the JSON.

        Returns:
            The files written.

        Raises:
            ValueError: If there are more segments than 16 bits can tell apart, the stem is not
                a name, or ``metadata`` has keys of :meth:`record`.
            OSError: If a file cannot be written.
        """
        if stem in ("", ".", "..") or Path(stem).name != stem:
            raise ValueError(f"Expected argument `stem` to be a file's name, but got {stem!r}.")
        record = self.record()
        reserved = sorted(set(record) & set(metadata or {}))
        if reserved:
            raise ValueError(f"Expected `metadata` without {reserved}, which are written anyway.")
        directory = Path(directory)
        labels_path, overlay_path, json_path = self.paths(directory, stem)
        labels = Image.fromarray(self._compact_labels())
        text = json.dumps({**record, **(metadata or {})}, indent=2).encode()
        files: dict[Path, Callable[[IO[bytes]], Any]] = {
            labels_path: lambda file: labels.save(file, format="PNG")
        }
        if image is not None:
            picture = self.overlay(image)
            # Fast compression: an overlay of 100 megapixels takes minutes otherwise.
            files[overlay_path] = lambda file: picture.save(file, format="PNG", compress_level=1)
        files[json_path] = lambda file: file.write(text)
        directory.mkdir(parents=True, exist_ok=True)
        _write_together(files)
        if image is None:
            overlay_path.unlink(missing_ok=True)  # of an earlier result
        return list(files)

    def save_labels(self, path: str | os.PathLike[str]) -> None:
        """Write the label map alone, as a grey PNG whose values are the ids.

        Args:
            path: The file, complete or absent afterwards; its folder is made if need be.

        Raises:
            ValueError: If there are more segments than 16 bits can tell apart.
            OSError: If the file cannot be written.
        """
        labels = Image.fromarray(self._compact_labels())
        write_atomically(Path(path), lambda file: labels.save(file, format="PNG"))

    @staticmethod
    def paths(directory: Path, stem: str) -> tuple[Path, Path, Path]:
        """The label map, overlay and JSON that :meth:`save` writes, in this order."""
        return (
            directory / f"{stem}_labels.png",
            directory / f"{stem}_overlay.png",
            directory / f"{stem}.json",
        )

    def record(self) -> dict[str, Any]:
        """What the JSON holds: version, sizes, number of segments, times, and every segment.

        A segment's ``id`` is its value in the label map; ``name`` is there if it has one;
        ``area`` is in pixels, ``bbox`` is x, y, width and height in pixels, ``segmentation`` a
        run-length encoding as COCO has it. A segment need not be connected.
        """
        return {
            "diffsegkit": version("diffsegkit"),
            "image_size": {"height": self.image_size[0], "width": self.image_size[1]},
            "crop_box": None if self.crop_box is None else list(self.crop_box),
            "num_segments": self.num_segments,
            "times_ms": {stage: round(value, 3) for stage, value in self.times.items()},
            "segments": self._segments(),
        }

    def _compact_labels(self) -> NDArray[np.unsignedinteger[Any]]:
        """The labels with 8 bits, or 16 where ids need them."""
        if self.num_segments > 2**16:
            raise ValueError(
                f"A label map holds up to 65536 segments in 16 bits, but there are "
                f"{self.num_segments}; merge more, with larger thresholds."
            )
        dtype = torch.uint8 if self.num_segments <= 2**8 else torch.uint16
        return self.labels.to(dtype).cpu().numpy()


def close_gaps(labels: Tensor, proposals: Proposals) -> tuple[Tensor, Proposals]:
    """Drop the proposals that won no pixel, from labels and proposals together.

    Args:
        labels: ``(H, W)`` int64, indices into ``proposals``.
        proposals: The proposals of that image.

    Returns:
        Labels with ids 0..K'-1 without gaps, in the same order, and the K' proposals left.

    Example:
        >>> import torch
        >>> from diffsegkit import Proposals
        >>> labels, kept = close_gaps(torch.tensor([[0, 2]]), Proposals(torch.ones(3, 1, 1)))
        >>> labels, len(kept)
        (tensor([[0, 1]]), 2)
    """
    area = torch.bincount(labels.flatten(), minlength=len(proposals))
    present = area > 0
    if bool(present.all()):
        return labels, proposals
    new_id = present.cumsum(0) - 1
    return new_id[labels], proposals.keep(present.nonzero().flatten())


def join_names(
    labels: Tensor, proposals: Proposals, names: Sequence[str]
) -> tuple[Tensor, Proposals, tuple[str, ...]]:
    """Make one segment of those that have one name.

    Args:
        labels: ``(H, W)`` int64, ids 0..K-1 without gaps.
        proposals: The K proposals.
        names: The K names.

    Returns:
        Labels with ids 0..K'-1, in the order in which the names first occur; the K' proposals, of
        which one that was joined is the mean of its members, weighted by their numbers of pixels;
        and the K' names, all different.

    Example:
        >>> import torch
        >>> from diffsegkit import Proposals
        >>> maps = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]])
        >>> labels, kept, names = join_names(
        ...     torch.tensor([[0, 1, 2]]), Proposals(maps), ["cat", "sofa", "cat"]
        ... )
        >>> labels, names, kept.maps[0]
        (tensor([[0, 1, 0]]), ('cat', 'sofa'), tensor([[0.5000, 0.0000, 0.5000]]))
    """
    distinct = list(dict.fromkeys(names))
    if len(distinct) == len(names):
        return labels, proposals, tuple(names)
    new_id = torch.tensor([distinct.index(name) for name in names], device=labels.device)
    area = torch.bincount(labels.flatten(), minlength=len(names)).to(proposals.maps)
    share = torch.zeros(len(distinct), len(names), dtype=area.dtype, device=area.device)
    share[new_id, torch.arange(len(names), device=labels.device)] = area
    share = share / share.sum(1, keepdim=True)
    maps = torch.einsum("nk,khw->nhw", share, proposals.maps)
    scores = proposals.scores
    if scores is not None:
        # What any of the members has, the joined segment has.
        scores = torch.stack([scores[new_id == index].amax(0) for index in range(len(distinct))])
    joined = replace(proposals, maps=maps, scores=scores)
    return new_id[labels], joined, tuple(distinct)


def _run_lengths(
    labels: NDArray[np.unsignedinteger[Any]], num_segments: int
) -> Iterator[list[int]]:
    """COCO's uncompressed run lengths of each label, from one pass over the label map."""
    columns = labels.T.ravel()  # COCO counts down the columns
    starts = np.concatenate([[0], np.flatnonzero(columns[1:] != columns[:-1]) + 1])
    ends = np.concatenate([starts[1:], [columns.size]])
    of_run = columns[starts]
    by_label = np.argsort(of_run, kind="stable")
    first_run = np.searchsorted(of_run[by_label], np.arange(num_segments + 1))
    for label in range(num_segments):
        runs = by_label[first_run[label] : first_run[label + 1]]
        # Outside, inside, outside, ...: the boundaries of the runs, with both ends of the map.
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts: list[int] = np.diff(edges, prepend=0, append=columns.size).tolist()
        yield counts if counts[-1] else counts[:-1]


def _write_together(files: Mapping[Path, Callable[[IO[bytes]], Any]]) -> None:
    """Write files of which the last says that all are there.

    All are written under other names first, so that a full disk or an interruption leaves what
    was there before; then they take their names in order, an old last one having gone first.
    """
    staged: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        for path, write in files.items():
            staged[path] = temporary_name(path)
            with staged[path].open("xb") as file:
                write(file)
        path.unlink(missing_ok=True)
        for path, temporary in staged.items():
            try:
                temporary.replace(path)
            except OSError as error:  # name the file that was meant
                raise OSError(error.errno, error.strerror, str(path)) from error
            placed.append(path)
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        raise
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
