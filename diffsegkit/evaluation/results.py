"""From measured images to numbers, and to the files that hold them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diffsegkit.data import SegmentationDataModule
from diffsegkit.environment import device_name, git_state, versions
from diffsegkit.evaluation.pictures import draw_extremes, log_pictures
from diffsegkit.evaluation.protocol import Protocol
from diffsegkit.evaluation.table import Row, append_rows, markdown
from diffsegkit.files import write_atomically
from diffsegkit.metrics import ImageMetric

if TYPE_CHECKING:
    from diffsegkit.evaluation.module import EvaluationModule

_TOLD = {"none": "", "target": "K of each image", "mean": "mean K of the data"}


@dataclass(frozen=True)
class Results:
    """One method on one data set.

    Args:
        method: Its name.
        protocol: By which it was scored.
        scores: Each metric over the data set.
        per_class: For metrics that have it, the score of each class by name; absent classes are
            not a number.
        per_image: For each image in the order of the data its id, number of segments, and every
            metric by itself.
        times_ms: Mean milliseconds per image and stage.
    """

    method: str
    protocol: Protocol
    scores: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    per_image: Sequence[Mapping[str, Any]]
    times_ms: Mapping[str, float]

    @classmethod
    def from_records(
        cls,
        method: str,
        records: Sequence[Mapping[str, Any]],
        metrics: Mapping[str, ImageMetric],
        protocol: Protocol,
        data: SegmentationDataModule,
    ) -> Results:
        """Rebuild the metrics from what was measured.

        Args:
            method: Whose records are looked at.
            records: One per image, in the order of the data.
            metrics: New metrics.
            protocol: By which it was scored.
            data: The data set, for the names of classes.
        """
        per_image = []
        times: dict[str, float] = {}
        for record in records:
            own = record["methods"][method]
            row = {"id": record["id"], "num_segments": own["num_segments"]}
            for name, metric in metrics.items():
                statistics = own["statistics"][metric.statistic]
                metric.add(statistics)
                row[name] = metric.score(statistics)
            per_image.append(row)
            for stage, milliseconds in own["times_ms"].items():
                times[stage] = times.get(stage, 0.0) + milliseconds / len(records)
        scores = {name: float(metric.compute()) for name, metric in metrics.items()}
        per_class: dict[str, dict[str, float]] = {}
        for name, metric in metrics.items():
            class_scores: Callable[[], Tensor] | None = getattr(metric, "class_scores", None)
            if class_scores is not None:
                pairs = zip(data.class_names, class_scores().tolist(), strict=True)
                per_class[name] = dict(pairs)
        return cls(method, protocol, scores, per_class, per_image, times)

    def ranked(self) -> list[str]:
        """Ids of the images, the best first; those without a score are left out."""
        key = self.protocol.ranks_by
        scored = [row for row in self.per_image if not isnan(row[key])]
        return [row["id"] for row in sorted(scored, key=lambda row: -row[key])]


def write_results(
    module: EvaluationModule, data: SegmentationDataModule, results: Mapping[str, Results]
) -> None:
    """Write tables and pictures, the line in ``results.csv``, and last ``results.json``.

    Args:
        module: Which evaluated them.
        data: The data set.
        results: Of each method.
    """
    folder = module.folder.directory
    document = _document(module, data, results)
    rows = [Row.from_document(document, result) for result in document["results"]]
    _write_text(folder / "per_image.csv", _per_image_csv(results))
    _write_text(folder / "table.md", markdown(rows))
    pictures = draw_extremes(module, data, results)
    for name, picture in pictures.items():
        write_atomically(
            folder / "pictures" / f"{name}.png",
            lambda file, picture=picture: picture.save(file, format="PNG"),  # type: ignore[misc]
        )
    log_pictures(module.loggers, pictures)
    append_rows(module.table, rows)
    _write_text(folder / "results.json", json.dumps(_without_nan(document), indent=2) + "\n")


def _document(
    module: EvaluationModule, data: SegmentationDataModule, results: Mapping[str, Results]
) -> dict[str, Any]:
    protocol = module.protocol_for(data)
    return {
        **module.folder.identity(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": module.folder.directory.name,
        "data": data.describe(),
        "protocol": protocol.describe(),
        "needs": {need: need in module.needs for need in ("LD", "UA", "AX")},
        "told": _TOLD[module.num_segments],
        "images": len(data.ids),
        "processes": module.trainer.world_size,
        "device": device_name(module.device),
        "versions": versions(),
        "git": git_state(Path.cwd()),
        **module.metadata,
        "results": [
            {
                "method": name,
                "protocol": protocol.label(),
                "scores": dict(result.scores),
                "per_class": {metric: dict(own) for metric, own in result.per_class.items()},
                "times_ms": {stage: round(ms, 3) for stage, ms in result.times_ms.items()},
                "configuration": dict(getattr(module.methods[name], "configuration", {})),
            }
            for name, result in results.items()
        ],
    }


def _per_image_csv(results: Mapping[str, Results]) -> str:
    text = io.StringIO()
    first = next(iter(results.values())).per_image
    writer = csv.DictWriter(text, ["id", "method", *[key for key in first[0] if key != "id"]])
    writer.writeheader()
    for name, result in results.items():
        writer.writerows({"method": name, **row} for row in result.per_image)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """JSON has no NaN: a class that never occurs has no score."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value
