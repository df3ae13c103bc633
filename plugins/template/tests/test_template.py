import pytest
import torch
from diffsegkit import AggregatedAttention, Segmenter

from diffsegkit_template import TemplateMerger


def test_two_blocks_are_two_proposals():
    # Six locations that attend to themselves, and two that attend to each other.
    blocks = torch.block_diag(torch.full((6, 6), 1 / 6), torch.full((2, 2), 1 / 2))
    aggregated = AggregatedAttention(blocks[None], grid=(2, 4))
    [proposals] = TemplateMerger(quantile=0.7)(aggregated)
    assert len(proposals) == 2
    assert proposals.maps.argmax(0).flatten().tolist() == [0] * 6 + [1] * 2


def test_a_quantile_that_is_none():
    with pytest.raises(ValueError, match="from 0 to 1, but got 2"):
        TemplateMerger(quantile=2)


def test_it_is_found_by_its_name():
    segmenter = Segmenter.from_preset("affinity", merger="TemplateMerger")
    [segmentation] = segmenter(torch.rand(3, 48, 64))
    assert 1 <= segmentation.num_segments <= 2
