"""What holds for every metric."""

import copy
import json
import pickle
import subprocess
import sys

import matplotlib as mpl
import pytest
import torch
from torchmetrics import MetricCollection

from diffsegkit.metrics import (
    ClusteringScore,
    ImageMatchedAccuracy,
    ImageMatchedMeanIoU,
    ImageMetric,
    ProbabilisticRandIndex,
    SegmentationCovering,
    SegmentCount,
    VariationOfInformation,
)
from tests.metrics.cases import METRICS, images

every_metric = pytest.mark.parametrize("make", METRICS.values(), ids=METRICS)


def whole_set(make, number=6):
    metric = make()
    metric.update(*images(number))
    return metric


def states(metric):
    return {name: value.clone() for name, value in metric.metric_state.items()}


def assert_equal_states(metric, other):
    assert metric.metric_state.keys() == other.metric_state.keys()
    for name, value in metric.metric_state.items():
        assert value.dtype == other.metric_state[name].dtype
        torch.testing.assert_close(value, other.metric_state[name], rtol=1e-15, atol=0)


@every_metric
def test_the_forms_of_a_batch(make):
    preds, targets = images(4)
    preds, targets = [p[:6, :3] for p in preds], [t[:6, :3] for t in targets]
    metrics = [make() for _ in range(4)]
    metrics[0].update(preds, targets)
    metrics[1].update(torch.stack(preds), torch.stack(targets))
    for pred, target in zip(preds, targets, strict=True):
        metrics[2].update(pred, target)
        metrics[3].update(pred[None], target[None])
    for metric in metrics[1:]:
        assert_equal_states(metric, metrics[0])
        assert metric.compute() == metrics[0].compute()


@every_metric
def test_images_of_different_sizes(make):
    metric = whole_set(make)
    value = metric.compute()
    assert value.dtype == torch.float64
    assert value.shape == ()
    assert value.isfinite()
    assert value > 0


@every_metric
def test_a_journal_is_as_good_as_the_images(make):
    metric, again = whole_set(make), make()
    before = states(again)
    lines = [
        json.dumps(again.measure(*image), allow_nan=False) for image in zip(*images(6), strict=True)
    ]
    assert all(torch.equal(value, before[name]) for name, value in states(again).items())
    for line in lines:
        again.add(json.loads(line))
    assert_equal_states(again, metric)
    assert again.compute() == metric.compute()
    again.add(json.loads(lines[0]))  # what was computed before does not stick
    longer = make()
    for line in [*lines, lines[0]]:
        longer.add(json.loads(line))
    assert again.compute() == longer.compute() != metric.compute()
    again.reset()
    again.add(json.loads(lines[1]))
    assert again.compute() == metric.score(json.loads(lines[1]))


@every_metric
def test_the_score_of_an_image_is_that_of_a_set_of_one(make):
    for pred, target in zip(*images(4), strict=True):
        metric = make()
        statistics = metric.measure(pred, target)
        score = metric.score(statistics)
        assert isinstance(score, float)
        assert not metric.update_called
        assert metric(pred, target) == score  # forward: the value of the batch
        assert metric.compute() == score


def test_equal_statistics_are_interchangeable():
    by_statistic = {}
    pred, target = (maps[0] for maps in images(1))
    for make in METRICS.values():
        metric = make()
        measured = metric.measure(pred, target)
        assert by_statistic.setdefault(metric.statistic, measured) == measured
    assert sorted(by_statistic) == [
        "boundary-0.1",
        "contingency",
        "contingency-ignoring--1",
        "histogram-4",
        "segments",
    ]
    assert ImageMatchedMeanIoU(4, ignore_index=255).statistic == "histogram-4-ignoring-255"
    assert ImageMatchedMeanIoU(4, ignore_index=None).statistic == "histogram-4-ignoring-None"


@every_metric
def test_copies(make):
    metric = whole_set(make, 3)
    copies = [pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()]
    preds, targets = images(5)
    metric.update(preds[3:], targets[3:])
    for other in copies:
        assert other.compute() == whole_set(make, 3).compute()
        other.update(preds[3:], targets[3:])
        assert_equal_states(other, metric)
        assert other.statistic == metric.statistic


@every_metric
def test_reset(make):
    metric = whole_set(make)
    expected = metric.compute()
    metric.reset()
    assert_equal_states(metric, make())
    metric.update(*images(6))
    assert metric.compute() == expected


@every_metric
def test_merging_states(make):
    preds, targets = images(6)
    first, second = make(), make()
    first.update(preds[:2], targets[:2])
    second.update(preds[2:], targets[2:])
    assert first.compute() != whole_set(make).compute()
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), whole_set(make).compute(), rtol=1e-14, atol=0)
    again = make()
    again.update(preds[:2], targets[:2])
    again.merge_state(second.metric_state)
    assert_equal_states(again, first)


def test_merging_other_settings():
    one, other = ImageMatchedMeanIoU(4), ImageMatchedMeanIoU(4, variant="tie_free")
    message = "from image-matched histogram-4 variant=original .* but got .* variant=tie_free"
    for incoming in (other, other.metric_state):
        with pytest.raises(ValueError, match=message):
            one.merge_state(incoming)
    with pytest.raises(ValueError, match="variant=original"):
        one.merge_state(SegmentationCovering())


@every_metric
def test_precision_is_kept(make):
    expected = whole_set(make)
    for change in (
        lambda metric: metric.half(),
        lambda metric: metric.bfloat16(),
        lambda metric: metric.to(torch.float16),
        lambda metric: metric.to("cpu", torch.float32),
        lambda metric: metric.set_dtype(torch.float16),
        lambda metric: metric.float(),
    ):
        metric = change(whole_set(make))
        assert_equal_states(metric, expected)
        metric.reset()
        metric.update(*images(6))
        assert_equal_states(metric, expected)
        assert metric.compute() == expected.compute()


@every_metric
def test_states_follow_to_a_device(make):
    metric = whole_set(make)
    metric.to("meta")
    assert {value.device.type for value in metric.metric_state.values()} == {"meta"}


@every_metric
def test_no_images(make):
    metric = make()
    with pytest.warns(UserWarning, match="was called before the ``update`` method"):
        assert metric.compute().isnan()
    metric.update([], [])
    assert metric.compute().isnan()


@every_metric
def test_an_image_that_says_nothing_changes_nothing(make):
    metric = whole_set(make)
    expected = metric.compute()
    void = torch.zeros(0, 3, dtype=torch.int64)
    if isinstance(metric, SegmentCount):
        assert metric.score(metric.measure(void)) == 0
        return
    if metric.statistic.startswith("boundary"):
        assert metric.score(metric.measure(void, void)) == 1
    else:
        assert metric.score(metric.measure(void, void)) != metric.score(metric.measure(void, void))
    metric.update(void, void)
    assert metric.compute() == expected


@every_metric
def test_plot(make):
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    metric = whole_set(make)
    figure, axes = metric.plot()
    assert figure is not None
    values = [metric.compute(), metric.compute()]
    again, _ = metric.plot(values, ax=axes)
    assert again is None or again is figure
    plt.close("all")


@every_metric
def test_declared(make):
    metric = make()
    assert isinstance(metric, ImageMetric)
    assert metric.full_state_update is False
    assert metric.is_differentiable is False
    assert metric.higher_is_better == {"VariationOfInformation": False, "SegmentCount": None}.get(
        type(metric).__name__, True
    )
    value = whole_set(make).compute()
    assert metric.plot_lower_bound is None or value >= metric.plot_lower_bound
    assert metric.plot_upper_bound is None or value <= metric.plot_upper_bound


@every_metric
def test_wrong_images(make):
    metric = make()
    preds, targets = images(3)
    wrong = [
        ([*preds[:2], preds[2].float()], targets, TypeError, "`preds` to hold integers, but got"),
        ([*preds[:2], preds[2].bool()], targets, TypeError, "hold integers, but got torch.bool"),
        (torch.zeros(1, 1, 1, 1).long(), targets, ValueError, r"\(B, H, W\) or \(H, W\), but got"),
        (7, targets, TypeError, "`preds` to be a tensor or a sequence of tensors, but got int"),
    ]
    if not isinstance(metric, SegmentCount):
        wrong += [
            (preds, targets[:2], ValueError, "ground truth for each of 3 images, but got 2"),
            (preds, 7, TypeError, "`target` to be a tensor or a sequence of tensors, but got int"),
            (preds, [*targets[:2], targets[2].float()], TypeError, "to hold integers, but got"),
            (preds, [*targets[:2], targets[2][1:]], ValueError, "to have the shape of"),
        ]
    for pred, target, error, message in wrong:
        with pytest.raises(error, match=message):
            metric.update(pred, target)
        assert_equal_states(metric, make())  # not half a batch


def alone(metrics, batches):
    for metric in metrics.values():
        for preds, target in batches:
            metric.update(preds, target)
    return {name: metric.compute() for name, metric in metrics.items()}


def trap():
    """Metrics whose states agree after a first batch that has nothing special."""
    return {
        "iou": ImageMatchedMeanIoU(3),
        "accuracy": ImageMatchedAccuracy(3),
        "iou_255": ImageMatchedMeanIoU(3, ignore_index=255),
        "iou_tie_free": ImageMatchedMeanIoU(3, variant="tie_free"),
        "iou_background": ImageMatchedMeanIoU(3, background=0),
        "covering": SegmentationCovering(),
        "rand": ProbabilisticRandIndex(),
        "rand_ignore": ProbabilisticRandIndex(ignore_index=2),
        "information": VariationOfInformation(),
        "adjusted": ClusteringScore(),
        "homogeneity": ClusteringScore("homogeneity_score"),
    }


def test_metrics_of_a_collection_share_only_what_is_the_same():
    plain = torch.tensor([[0, 0, 1, 1, 2, 2]])
    noisy = torch.tensor([[0, 1, 1, 0, 4, 3]])
    batches = [(plain, plain), (noisy, plain), (noisy + 2, plain)]
    expected = alone(trap(), batches)
    assert len({float(value) for value in expected.values()}) > 7
    collection = MetricCollection(trap(), compute_groups=True)
    for preds, target in batches:
        collection.update(preds, target)
    assert sorted(map(sorted, collection.compute_groups.values()))[:1] == [["accuracy", "iou"]]
    assert len(collection.compute_groups) == len(expected) - 1
    for name, value in collection.compute().items():
        assert value == expected[name], name
    # Lightning calls forward, and reads metrics one by one.
    collection.reset()
    for preds, target in batches:
        collection(preds, target)
    for name, metric in collection.items():
        assert metric.compute() == expected[name], name


def test_a_collection_takes_a_journal():
    collection = MetricCollection(trap())
    preds, target = torch.tensor([[0, 1, 1, 0, 4, 3]]), torch.tensor([[0, 0, 1, 1, 2, 2]])
    for metric in collection.values():
        metric.add(metric.measure(preds, target))
    for name, value in alone(trap(), [(preds, target)]).items():
        assert collection[name].compute() == value


def test_a_metric_of_ones_own():
    class LargestSegment(SegmentCount):
        def measure(self, preds, target=None):
            return {"segments": int(preds.flatten().bincount().max())}

    metric = LargestSegment()
    metric.update(torch.tensor([[[1, 1, 1]], [[0, 1, 2]]]))
    assert metric.compute() == 2
    collection = MetricCollection({"largest": LargestSegment(), "count": SegmentCount()})
    collection.update(torch.tensor([0, 0, 1, 1]), None)  # both 2
    collection.update(torch.tensor([5, 5, 5]), None)
    assert collection.compute() == {"largest": 2.5, "count": 1.5}


def test_the_metrics_stand_alone():
    # torchmetrics itself imports transformers where it is installed.
    script = (
        "import sys, torchmetrics; theirs = {name.partition('.')[0] for name in sys.modules};"
        "import diffsegkit.metrics, diffsegkit.metrics.functional;"
        "top = {name.partition('.')[0] for name in sys.modules} - theirs;"
        "print(sorted(top & {'lightning', 'pytorch_lightning', 'diffusers', 'transformers',"
        " 'skimage', 'sklearn', 'matplotlib.pyplot', 'kornia', 'PIL.Image'}));"
        "print(sorted(name for name in sys.modules if name.startswith('diffsegkit.')"
        " and not name.startswith('diffsegkit.metrics')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
