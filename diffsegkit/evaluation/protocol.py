"""How label maps are scored: protocols that must not be mixed, and what each measures."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from diffsegkit.data import IGNORE, SegmentationDataModule
from diffsegkit.errors import UsageError
from diffsegkit.metrics import (
    BoundaryFMeasure,
    ClusteringScore,
    DatasetMatchedAccuracy,
    DatasetMatchedMeanIoU,
    ImageMatchedAccuracy,
    ImageMatchedMeanIoU,
    ImageMetric,
    ProbabilisticRandIndex,
    SegmentationCovering,
    SegmentCount,
    VariationOfInformation,
)

ProtocolName = Literal["image-matched", "dataset-matched", "region"]
Variant = Literal["original", "tie_free"]
Background = Literal["class", "many-to-one"]


@dataclass(frozen=True)
class Protocol:
    """A protocol with its options; two results are comparable only if these are equal.

    Args:
        name: ``"image-matched"``: segments are matched to classes in each image (DiffSeg,
            DiffCut). ``"dataset-matched"``: ids mean the same in every image, and are matched once
            over the set (PiCIE, STEGO). ``"region"``: no classes, several annotators (BSDS500).
        variant: Of the image-matched protocol: ``"original"`` as published figures have it,
            ``"tie_free"`` without its dependence on ids.
        background: ``"class"``: an ordinary class. ``"many-to-one"``: every segment that matches
            no other class is background (DiffCut on VOC, Context and COCO-Object).
        num_clusters: Of the dataset-matched protocol: how many ids there may be, if more than
            classes; those that match no class count as errors.

    Raises:
        UsageError: If a value is unknown.
    """

    name: ProtocolName
    variant: Variant = "original"
    background: Background = "class"
    num_clusters: int | None = None

    def __post_init__(self) -> None:
        for field, choices in (
            ("name", ProtocolName), ("variant", Variant), ("background", Background)
        ):  # fmt: skip
            if getattr(self, field) not in get_args(choices):
                raise UsageError(
                    f"Expected the protocol's {field} to be one of {get_args(choices)}, but got "
                    f"{getattr(self, field)!r}."
                )

    def metrics(self, data: SegmentationDataModule) -> dict[str, ImageMetric]:
        """New metrics, by the names that results have.

        Args:
            data: What is scored, after its ``setup``.

        Raises:
            UsageError: If the data cannot be scored like this.
        """
        if self.name == "region":
            # Of class maps the borders of what is ignored are nobody's boundaries.
            boundary = {} if data.num_classes else {"boundary_F": BoundaryFMeasure()}
            return {
                "covering": SegmentationCovering(ignore_index=IGNORE),
                "PRI": ProbabilisticRandIndex(ignore_index=IGNORE),
                "VI": VariationOfInformation(ignore_index=IGNORE),
                **boundary,
                "ARI": ClusteringScore("adjusted_rand_score", ignore_index=IGNORE),
                "NMI": ClusteringScore("normalized_mutual_info_score", ignore_index=IGNORE),
                "segments": SegmentCount(),
            }
        if not data.num_classes:
            raise UsageError(
                f"{type(data).__name__} has regions without classes; score it with "
                "--model.protocol region."
            )
        background = self._background_class(data)
        if self.name == "dataset-matched":
            if background is not None:
                raise UsageError(
                    "A many-to-one background belongs to the image-matched protocol; use "
                    "--model.background class."
                )
            return {
                "mIoU": DatasetMatchedMeanIoU(data.num_classes, self.num_clusters),
                "ACC": DatasetMatchedAccuracy(data.num_classes, self.num_clusters),
                "segments": SegmentCount(),
            }
        options: dict[str, Any] = {"variant": self.variant, "background": background}
        return {
            "mIoU": ImageMatchedMeanIoU(data.num_classes, **options),
            "ACC": ImageMatchedAccuracy(data.num_classes, **options),
            "segments": SegmentCount(),
        }

    @property
    def ranks_by(self) -> str:
        """The metric by which an image is better or worse than another."""
        return "covering" if self.name == "region" else "mIoU"

    def describe(self) -> dict[str, Any]:
        """What a result must say: only the options that the protocol has."""
        own = {"image-matched": ("variant", "background"), "dataset-matched": ("num_clusters",)}
        return {"name": self.name} | {key: getattr(self, key) for key in own.get(self.name, ())}

    def label(self) -> str:
        """The description in a few words, for headings and columns.

        Example:
            >>> Protocol("image-matched").label()
            'image-matched, original'
        """
        described = self.describe()
        words: list[str] = [self.name]
        if "variant" in described:
            words.append(self.variant)
        if described.get("background") == "many-to-one":
            words.append("many-to-one background")
        if described.get("num_clusters"):
            words.append(f"{self.num_clusters} clusters")
        return ", ".join(words)

    def _background_class(self, data: SegmentationDataModule) -> int | None:
        if self.background == "class":
            return None
        if data.background is None:
            raise UsageError(
                f"{type(data).__name__} has no background class, so that --model.background "
                "many-to-one has no meaning; use class."
            )
        return data.background


def measure(
    metrics: dict[str, ImageMetric], labels: Tensor, annotations: tuple[Tensor, ...], region: bool
) -> dict[str, Any]:
    """Measure one image once per kind of statistic.

    Args:
        metrics: What will be computed.
        labels: ``(H, W)`` int64 label map.
        annotations: The ground truth, each ``(H, W)``.
        region: Whether all annotators count, or the one class map.

    Returns:
        Plain data, by :attr:`ImageMetric.statistic`.
    """
    target = annotations if region else annotations[0]
    found: dict[str, Any] = {}
    for metric in metrics.values():
        if metric.statistic not in found:
            found[metric.statistic] = metric.measure(labels, target)
    return found
