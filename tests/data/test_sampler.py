import pytest
from torch.utils.data import DistributedSampler

from diffsegkit.data import EvaluationSampler
from diffsegkit.data.sampler import PADDING


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("images", [7, 1, 0])
def test_every_image_comes_once_and_all_shares_are_equally_long(world_size, images):
    indices = list(range(10, 10 + images))
    shares = [
        list(EvaluationSampler(indices, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert sorted(index for share in shares for index in share if index != PADDING) == indices
    [length] = {len(share) for share in shares}
    assert length == max(1, -(-images // world_size))
    for rank, share in enumerate(shares):
        sampler = EvaluationSampler(indices, rank=rank, world_size=world_size)
        assert len(sampler) == length
        assert [index for index in share if index != PADDING] == indices[rank::world_size]


def test_lightning_leaves_it_alone():
    assert isinstance(EvaluationSampler([0]), DistributedSampler)


def test_a_rank_that_cannot_be():
    with pytest.raises(ValueError, match="rank"):
        EvaluationSampler([0], rank=2, world_size=2)
