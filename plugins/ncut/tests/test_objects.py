"""TokenCut and MaskCut against the papers' steps, written down anew with NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.linalg import eigh

from diffsegkit.errors import UsageError
from diffsegkit_ncut import MaskCutMerger, TokenCutMerger
from graphs import aggregated, vectors_of

SOLVERS = ["dense", "arpack", "lobpcg", "auto"]


def scene(generator, noise=0.1):
    """A background, an object in two pieces of which one is small, and another object."""
    kinds = torch.zeros(9, 14, dtype=torch.int64)
    kinds[2:6, 2:6], kinds[7, 1] = 1, 1
    kinds[3:8, 9:12] = 2
    features = vectors_of(kinds.flatten(), noise, generator).mT.reshape(1, -1, 9, 14)
    return kinds, features


def token_cut(features, tau=0.2, eps=1e-5):
    """The object of TokenCut by its definition: (h, w) bool, and the whole side."""
    grid = features.shape[1:]
    flat = features.reshape(len(features), -1).T.astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat / np.where(lengths == 0, 1, lengths)
    weights = np.where(flat @ flat.T > tau, 1.0, eps)
    degree = np.diag(weights.sum(1))
    vector = eigh(degree - weights, degree)[1][:, 1]
    seed = np.abs(vector).argmax()
    vector = vector * np.sign(vector[seed])
    side = (vector > vector.mean()).reshape(grid)
    regions, _ = ndimage.label(side)
    return regions == regions.flat[seed], side, vector


@pytest.mark.parametrize("solver", SOLVERS)
def test_tokencut(solver, generator):
    _, features = scene(generator)
    component, side, _ = token_cut(features[0].numpy())
    [proposals] = TokenCutMerger(eigensolver=solver)(aggregated(features))
    found = proposals.scores.argmax(0).numpy() == 1
    assert np.array_equal(found, component) or np.array_equal(~found, component)
    [whole] = TokenCutMerger(eigensolver=solver, component=False)(aggregated(features))
    found = whole.scores.argmax(0).numpy() == 1
    assert np.array_equal(found, side) or np.array_equal(~found, side)
    assert not np.array_equal(side, component)


def test_maskcut_finds_one_object_after_another(generator):
    kinds, features = scene(generator, noise=0.05)
    expected = kinds.clone()
    expected[7, 1] = 0  # the small piece is not connected with its object
    [proposals] = MaskCutMerger(objects=2)(aggregated(features))
    assert torch.equal(proposals.scores.argmax(0), expected)
    [one] = MaskCutMerger(objects=1)(aggregated(features))
    component, _, _ = token_cut(features[0].numpy(), 0.15)
    assert np.array_equal(one.scores.argmax(0).numpy() == 1, component)


@pytest.mark.parametrize("solver", SOLVERS)
def test_all_solvers_find_the_same_objects(solver, generator):
    _, features = scene(generator)
    [expected] = MaskCutMerger(eigensolver="dense")(aggregated(features))
    [found] = MaskCutMerger(eigensolver=solver)(aggregated(features))
    assert torch.equal(found.scores, expected.scores)


def test_a_side_with_three_corners_is_background(generator):
    """The strongest entry lies in the larger part, around the image's corners."""
    kinds = torch.zeros(6, 8, dtype=torch.int64)
    kinds[1:5, 2:6] = 1
    features = vectors_of(kinds.flatten(), 0.0).mT.reshape(1, -1, 6, 8)
    # The background is the smaller of two groups by weight: its links are made weak.
    features[0, 0][kinds == 0] = 1
    kinds_small_background = 1 - kinds
    swapped = vectors_of(kinds_small_background.flatten()).mT.reshape(1, -1, 6, 8)
    for maps in (features, swapped):
        [proposals] = MaskCutMerger(objects=1)(aggregated(maps))
        assert torch.equal(proposals.scores.argmax(0), kinds)


def test_small_objects_after_the_first_are_dropped():
    kinds = torch.zeros(10, 12, dtype=torch.int64)
    kinds[1:5, 1:5], kinds[7, 8] = 1, 2
    features = vectors_of(kinds.flatten()).mT.reshape(1, -1, 10, 12)
    assert len(MaskCutMerger(min_share=0.0)(aggregated(features))[0]) == 3
    assert len(MaskCutMerger(min_share=0.01)(aggregated(features))[0]) == 2


@pytest.mark.parametrize("merger", [TokenCutMerger(), MaskCutMerger()])
def test_where_nothing_stands_out_there_is_one_segment(merger):
    assert len(merger(aggregated(torch.ones(1, 4, 3, 5)))[0]) == 1
    assert len(merger(aggregated(torch.zeros(1, 4, 3, 5)))[0]) == 1
    assert len(merger(aggregated(torch.ones(1, 4, 1, 1)))[0]) == 1


@pytest.mark.parametrize("merger", [TokenCutMerger(), MaskCutMerger()])
def test_a_batch_is_a_loop(merger, generator):
    features = torch.cat([scene(generator)[1], torch.randn(1, 4, 9, 14, generator=generator)])
    together = merger(aggregated(features))
    for index in range(2):
        [alone] = merger(aggregated(features[index : index + 1]))
        assert torch.equal(alone.scores, together[index].scores)


@pytest.mark.parametrize("merger", [TokenCutMerger(), MaskCutMerger()])
def test_no_features_is_told(merger):
    bare = aggregated(torch.ones(1, 1, 2, 2))
    with pytest.raises(UsageError, match=f"{type(merger).__name__} compares features, but"):
        merger(type(bare)(bare.probs, bare.grid))


@pytest.mark.parametrize(
    ("merger", "options", "message"),
    [
        (TokenCutMerger, {"tau": 2}, "`tau` between -1 and 1"),
        (TokenCutMerger, {"epsilon": 0}, "`epsilon` between 1e-12 and 1"),
        (MaskCutMerger, {"objects": 0}, "`objects` to be at least 1"),
        (MaskCutMerger, {"max_overlap": 1.5}, "`max_overlap` between 0 and 1"),
    ],
)
def test_wrong_arguments(merger, options, message):
    with pytest.raises(ValueError, match=message):
        merger(**options)
