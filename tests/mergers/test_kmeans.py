"""K-means against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from diffsegkit import AggregatedAttention
from diffsegkit.mergers import KMeansMerger
from diffsegkit.mergers.lloyd import lloyd
from tests.synthetic import random_probs, region_attention


def inertia(maps, centres):
    return float(torch.cdist(maps.double(), centres.double()).min(1).values.square().sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clusters", [1, 2, 5, 9])
def test_lloyd_is_scikit_learns(seed, clusters):
    generator = torch.Generator().manual_seed(seed)
    aggregated = region_attention((8, 9), generator, regions=4, contrast=2)
    maps = aggregated.probs[0]
    start = maps[torch.randperm(72, generator=generator)[:clusters]]
    expected = KMeans(clusters, init=start.numpy(), n_init=1).fit(maps.numpy())
    found = lloyd(aggregated, start)
    np.testing.assert_allclose(found.numpy(), expected.cluster_centers_, rtol=1e-4, atol=1e-6)


def test_an_empty_cluster_takes_the_furthest_map(generator):
    maps = torch.softmax(torch.randn(1, 12, 12, generator=generator), -1)
    start = torch.stack([maps[0].mean(0), torch.full((12,), 5.0)])  # nothing is near the second
    expected = KMeans(2, init=start.numpy(), n_init=1).fit(maps[0].numpy())
    found = lloyd(AggregatedAttention(maps, (3, 4)), start)
    np.testing.assert_allclose(found.numpy(), expected.cluster_centers_, rtol=1e-4, atol=1e-6)


def test_as_good_as_scikit_learn(generator):
    for _ in range(5):
        aggregated = region_attention((10, 10), generator, regions=5, contrast=3, noise=0.3)
        maps = aggregated.probs[0]
        [proposals] = KMeansMerger(num_segments=5)(aggregated)
        reference = KMeans(5, n_init=10, random_state=0).fit(maps.numpy())
        centres = proposals.maps.flatten(1)
        assert inertia(maps, centres) <= reference.inertia_ * 1.02
        labels = torch.cdist(maps, centres).argmin(1)
        assert adjusted_rand_score(labels, reference.labels_) > 0.95


def test_each_image_its_own_number_and_a_batch_is_a_loop(generator):
    aggregated = region_attention((5, 6), generator, batch=3, regions=4)
    merger = KMeansMerger(num_segments=3)
    assert [len(p) for p in merger(aggregated)] == [3, 3, 3]
    together = merger(aggregated, num_segments=[1, 4, 30])
    assert [len(proposals) for proposals in together] == [1, 4, 30]
    for image, proposals in enumerate(together):
        [alone] = merger(
            aggregated.select(slice(image, image + 1)), num_segments=[[1, 4, 30][image]]
        )
        assert torch.equal(proposals.maps, alone.maps)


def test_the_seed_decides(generator):
    aggregated = AggregatedAttention(random_probs(1, 40, generator), (5, 8))
    first, again = (KMeansMerger(7, seed=1)(aggregated)[0].maps for _ in range(2))
    assert torch.equal(first, again)
    others = [KMeansMerger(7, seed=seed)(aggregated)[0].maps for seed in range(2, 8)]
    assert not all(torch.equal(first, other) for other in others)


def test_maps_all_alike():
    same = AggregatedAttention(torch.full((1, 6, 6), 1 / 6), (2, 3))
    [proposals] = KMeansMerger(num_segments=3)(same)
    torch.testing.assert_close(proposals.maps, torch.full((3, 2, 3), 1 / 6))


def test_wrong_numbers(generator):
    aggregated = region_attention((2, 3), generator, batch=2)
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        KMeansMerger(num_segments=0)
    assert len(KMeansMerger()(aggregated, num_segments=np.array([2, 3]))) == 2
    for wrong in (2.5, "3"):
        with pytest.raises(ValueError, match="to be an integer, at least 1"):
            KMeansMerger(num_segments=wrong)
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            KMeansMerger()(aggregated, num_segments=[3, wrong])
    with pytest.raises(ValueError, match="one number for each of 2 images, but got 1"):
        KMeansMerger()(aggregated, num_segments=[3])
    with pytest.raises(ValueError, match="between 1 and the 6 locations of the grid, but got 7"):
        KMeansMerger()(aggregated, num_segments=[3, 7])
