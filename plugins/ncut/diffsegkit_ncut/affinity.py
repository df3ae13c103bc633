"""How alike two locations are: the weights of the graph that is cut."""

from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, SourceOutput
from diffsegkit.interfaces import require_features

Affinity = Literal["features", "attention"]
"""What the graph's weights are made of."""

FeatureMaps = Literal["last", "all"]
"""Whether the last of a source's feature maps counts, or all of them alike."""


def cosine_affinity(features: Tensor, alpha: float = 10.0) -> Tensor:
    """Cosines of feature vectors, brought to 0..1 and raised to a power.

    As DiffCut (Couairon et al., NeurIPS 2024, section 3.2; ``recursive_ncut`` in its
    ``recursive_normalized_cut.py``): of all cosines the least becomes 0 and the largest 1, over the
    image; the power makes what is not alike far from each other.

    Args:
        features: ``(N, C)``, floating point.
        alpha: The power.

    Returns:
        ``(N, N)`` float64, symmetric, in 0..1; 1 everywhere if all vectors are alike.

    Example:
        >>> import torch
        >>> cosine_affinity(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), alpha=2)
        tensor([[1., 1., 0.],
                [1., 1., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    unit = functional.normalize(features.double(), dim=1)
    cosines = unit @ unit.mT
    cosines = (cosines + cosines.mT) / 2
    low, high = torch.aminmax(cosines)
    # Rounding alone must not be blown up to a structure.
    if float(high - low) < 1e-9:
        return torch.ones_like(cosines)
    return ((cosines - low) / (high - low)) ** alpha


def attention_affinity(probs: Tensor) -> Tensor:
    """Attention in both directions, averaged: ``(P + P^T) / 2``.

    Args:
        probs: ``(N, N)``, a distribution in each row.

    Returns:
        ``(N, N)`` float64, symmetric.
    """
    wide = probs.double()
    return (wide + wide.mT) / 2


def joined_features(
    given: AggregatedAttention | SourceOutput | None, who: str, feature_maps: FeatureMaps
) -> Tensor:
    """Unit feature vectors of the source.

    Args:
        given: What a part was given.
        who: The part, for messages.
        feature_maps: ``"last"``, or ``"all"`` side by side, each normalised, so that the cosine of
            two of the vectors is the mean of the maps' cosines.

    Returns:
        ``(B, C, h, w)``, of length 1 along C (0 where a feature vector is 0).

    Raises:
        UsageError: If the source gives no features.
        ValueError: If ``"all"`` are of different grids.
    """
    last = require_features(given, who)
    if feature_maps == "last":
        only: Tensor = functional.normalize(last, dim=1)
        return only
    output = given.source if isinstance(given, AggregatedAttention) else given
    assert output is not None  # or else it had no features
    number = len(output.features)
    maps = [require_features(output, who, index=index) for index in range(number)]
    grids = {tuple(own.shape[2:]) for own in maps}
    if len(grids) > 1:
        raise ValueError(
            f"Expected feature maps of one grid for feature_maps='all', but got {sorted(grids)}; "
            "ask the source for those of one grid, or use feature_maps='last'."
        )
    return torch.cat([functional.normalize(own, dim=1) for own in maps], dim=1) / sqrt(number)


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise unless an argument is one of a ``Literal``'s values.

    Raises:
        ValueError: If not.
    """
    if value not in get_args(choices):
        raise ValueError(
            f"Expected argument `{name}` to be one of {get_args(choices)}, but got {value!r}."
        )


def check_between(name: str, value: float, low: float, high: float) -> float:
    """Raise unless a number lies between two others, ends included.

    Raises:
        ValueError: If not, NaN included.
    """
    if not low <= value <= high:
        raise ValueError(
            f"Expected argument `{name}` between {low:g} and {high:g}, but got {value}."
        )
    return float(value)
