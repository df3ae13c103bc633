"""The best, median and worst images beside their ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffsegkit.data import IGNORE, Sample, SegmentationDataModule
from diffsegkit.visualization import draw_overlay

if TYPE_CHECKING:
    from diffsegkit.evaluation.module import EvaluationModule
    from diffsegkit.evaluation.results import Results

_CELL = 280  # pixels, the longer side of each picture in the grid
_CAPTION = 34
_GREY = (96, 96, 96)


def draw_extremes(
    module: EvaluationModule, data: SegmentationDataModule, results: Mapping[str, Results]
) -> dict[str, Image.Image]:
    """Draw photo, ground truth and segments of some images.

    Args:
        module: Which segments them once more: no label map was kept.
        data: The data set.
        results: Of each method; the first says which images are best and worst.

    Returns:
        ``"extremes"``: the grid, a row per image and a column per method; nothing if no picture
        is wanted or no image has a score.
    """
    first = next(iter(results.values()))
    chosen = extremes(first.ranked(), module.pictures)
    if not chosen:
        return {}
    index = {image: position for position, image in enumerate(data.ids)}
    samples = [data.load(index[image]) for _, image in chosen]
    columns = [
        [
            (_photo(sample), f"{role}: {sample.id}")
            for (role, _), sample in zip(chosen, samples, strict=True)
        ],
        [(_ground_truth(sample), _names(sample, data)) for sample in samples],
    ]
    for name, result in results.items():
        by_id = {row["id"]: row for row in result.per_image}
        key = result.protocol.ranks_by
        column = []
        for sample, labels in zip(samples, module.segment_samples(name, samples), strict=True):
            row = by_id[sample.id]
            column.append(
                (
                    draw_overlay(sample.image, labels),
                    f"{name}: {key} {row[key]:.3f}, {row['num_segments']} segments",
                )
            )
        columns.append(column)
    return {"extremes": _grid(columns)}


def extremes(ranked: Sequence[str], number: int) -> list[tuple[str, str]]:
    """The first, middle and last of a ranking, none of them twice.

    Args:
        ranked: Ids, the best first.
        number: How many of each.

    Returns:
        Role and id.

    Example:
        >>> extremes(["a", "b", "c", "d", "e"], 1)
        [('best', 'a'), ('median', 'c'), ('worst', 'e')]
    """
    if not number:
        return []
    middle = max(0, (len(ranked) - number) // 2)
    roles = {
        "best": ranked[:number],
        "median": ranked[middle : middle + number],
        "worst": ranked[-number:],
    }
    chosen: dict[str, str] = {}
    for role, ids in roles.items():
        for image in ids:
            chosen.setdefault(image, role)
    return [(role, image) for image, role in chosen.items()]


def log_pictures(loggers: Sequence[object], pictures: Mapping[str, Image.Image]) -> None:
    """Send pictures to the loggers that take them.

    Args:
        loggers: Of the trainer.
        pictures: By name.
    """
    for logger in loggers:
        for name, picture in pictures.items():
            if isinstance(logger, TensorBoardLogger):
                experiment: Any = logger.experiment
                experiment.add_image(name, np.asarray(picture), dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image(key=name, images=[picture])


def _photo(sample: Sample) -> Image.Image:
    return draw_overlay(
        sample.image, torch.zeros(sample.image.shape[1:], dtype=torch.int64), opacity=0
    )


def _ground_truth(sample: Sample) -> Image.Image:
    """The (first) annotation; what counts for nothing is grey."""
    target: Tensor = sample.annotations[0]
    _, ids = torch.unique(target, return_inverse=True)
    picture = np.array(draw_overlay(sample.image, ids))
    picture[(target == IGNORE).numpy()] = _GREY
    return Image.fromarray(picture)


def _names(sample: Sample, data: SegmentationDataModule) -> str:
    present = [
        index for index in np.unique(sample.annotations[0].numpy()).tolist() if index != IGNORE
    ]
    if not data.class_names:
        return f"ground truth: {len(present)} regions (1 of {len(sample.annotations)} annotators)"
    return "ground truth: " + ", ".join(data.class_names[index] for index in present)


def _grid(columns: Sequence[Sequence[tuple[Image.Image, str]]]) -> Image.Image:
    """Columns of captioned pictures, which in one row have one size."""
    font = ImageFont.load_default(size=12)
    thumbnails = [[_thumbnail(picture) for picture, _ in column] for column in columns]
    width = max(picture.width for column in thumbnails for picture in column)
    heights = [max(column[row].height for column in thumbnails) for row in range(len(columns[0]))]
    size = (len(columns) * (width + 8), sum(heights) + len(heights) * _CAPTION)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for across, column in enumerate(columns):
        top = 0
        for down, (_, caption) in enumerate(column):
            left = across * (width + 8)
            sheet.paste(thumbnails[across][down], (left, top))
            draw.text(
                (left, top + heights[down] + 2), _shortened(caption, width, font), "black", font
            )
            top += heights[down] + _CAPTION
    return sheet


def _thumbnail(picture: Image.Image) -> Image.Image:
    scale = _CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a caption as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
