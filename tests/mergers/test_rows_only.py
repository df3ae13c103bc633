"""Mergers read attention through ``rows`` and nothing else, so that it may be held in any way."""

import pytest
import torch

from diffsegkit import AggregatedAttention
from diffsegkit.mergers import IterativeKLMerger, KMeansMerger, RandomAnchors
from tests.synthetic import region_attention


class Hidden(AggregatedAttention):
    """Holds its rows elsewhere; what lies in ``probs`` says nothing but how many images."""

    def __init__(self, whole):
        object.__setattr__(self, "whole", whole)
        object.__setattr__(self, "grid", whole.grid)
        object.__setattr__(self, "source", None)

    @property
    def probs(self):
        raise AssertionError("a merger looked past rows()")

    @property
    def batch_size(self):
        return self.whole.batch_size

    @property
    def device(self):
        return self.whole.device

    def rows(self, index):
        return self.whole.rows(index)

    def select(self, images):
        return Hidden(self.whole.select(images))


@pytest.mark.parametrize(
    "merger",
    [
        IterativeKLMerger((0.4, 0.5), refine=True),
        IterativeKLMerger(0.4, anchors=RandomAnchors(1), anchor_precision="float16"),
        KMeansMerger(3),
    ],
    ids=repr,
)
def test_rows_are_enough(merger, generator):
    whole = region_attention((5, 6), generator, batch=2)
    for plain, hidden in zip(merger(whole), merger(Hidden(whole)), strict=True):
        assert torch.equal(plain.maps, hidden.maps)
