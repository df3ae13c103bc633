"""The original's outputs are reproduced, pixel by pixel, on all of its 16 runs."""

import json
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from diffsegkit import AttentionMap, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.mergers import IterativeKLMerger
from tests.golden.attention import GENERATORS, SIZES

HERE = Path(__file__).parent
CASES = {case["name"]: case for case in json.loads((HERE / "cases.json").read_text())}


@cache
def expected(name):
    with np.load(HERE / "outputs.npz") as outputs:
        return {key: outputs[f"{name}/{key}"] for key in ("labels", "counts", "rows", "row_index")}


@lru_cache(maxsize=1)  # one is 132 MiB with its source
def aggregate(name):
    case = CASES[name]
    maps = GENERATORS[case["kind"]](**case["generator"])
    attention = [
        AttentionMap(torch.from_numpy(probs)[None], (size, size)) for size, probs in maps.items()
    ]
    ratio = case["weight_ratio"]
    weighting = "resolution" if ratio is None else dict(zip(SIZES, ratio, strict=True))
    return ResolutionAggregator(weighting)(SourceOutput(attention))


def merge(name, anchor_precision):
    case = CASES[name]
    merger = IterativeKLMerger(
        case["thresholds"],
        case["points_per_side"],
        refine=case["refine"],
        anchor_precision=anchor_precision,
    )
    [proposals] = merger(aggregate(name))
    return proposals


def assign(proposals):
    return ArgmaxAssigner()([proposals], (512, 512))[0].numpy()


def agreement(first, second):
    """Share of equal pixels under the best matching of ids."""
    side = max(first.max(), second.max()) + 1
    pairs = np.bincount(first.ravel() * side + second.ravel(), minlength=side**2)
    histogram = pairs.reshape(side, side)
    matched = linear_sum_assignment(histogram, maximize=True)
    return histogram[matched].sum() / first.size


@pytest.mark.parametrize("name", CASES)
def test_the_original_is_reproduced(name):
    case, original = CASES[name], expected(name)
    rows = aggregate(name).rows(torch.from_numpy(original["row_index"]))[0]
    np.testing.assert_allclose(rows.numpy(), original["rows"], rtol=1e-5)

    # float16 anchors: every count, every anchor that vanished, and (measured) at least 99.975 %
    # of the pixels, on soft_many, and 99.988 % elsewhere.
    half = merge(name, "float16")
    anchors = case["points_per_side"] ** 2
    assert half.rounds[0].count == anchors - case["nan_anchors"]
    counts = [merging_round.count for merging_round in half.rounds[1:]]
    assert counts == original["counts"].tolist()
    labels = original["labels"].astype(np.int64)
    assert agreement(assign(half), labels) >= 0.9997

    # float32 anchors lose none, so they agree where the original lost few.
    full = merge(name, "float32")
    assert full.rounds[0].count == anchors
    if case["nan_anchors"] <= 3:
        assert agreement(assign(full), labels) >= 0.9997


def test_the_comparison_can_fail():
    """A wrong anchor grid, exclusive merging and a missing round are all noticed."""
    labels = expected("soft_many")["labels"].astype(np.int64)
    case = CASES["soft_many"]
    for options in ({"points_per_side": 15}, {"overlap": False}, {"thresholds": (0.3, 0.3)}):
        merger = IterativeKLMerger(**{"thresholds": case["thresholds"], **options})
        [wrong] = merger(aggregate("soft_many"))
        assert agreement(assign(wrong), labels) < 0.99, options
