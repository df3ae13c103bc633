"""Text tokens as proposals: what each of them is attended to with is a map over the image."""

from typing import Literal, get_args

import torch
from torch import Tensor

from diffsegkit import Proposals
from diffsegkit.interfaces import Grid

Normalise = Literal["tokens", "locations"]
"""Over what attention is stretched to 0..1."""

# What keeps the original's division from 0/0.
_EPSILON = 1e-6


def token_proposals(attention: Tensor, grid: Grid, normalise: Normalise = "tokens") -> Proposals:
    """One proposal per text token, as Seg4Diff makes them of image-to-text attention.

    The attention is stretched to 0..1, and a softmax over all locations makes each token's map a
    distribution (paper, section 4 and appendix A.4; ``att2mask`` and ``mask_merge`` of
    ``seg4diff_model_unsup.py`` in cvlab-kaist/Seg4Diff, commit c81a2c6).

    Args:
        attention: ``(h*w, T)``, floating point, not negative: how much each location attends to
            each token; what it attends to beside them is left out.
        grid: ``(h, w)``.
        normalise: ``"tokens"`` stretches from the least to the most of each *location*, as the
            released code runs: where a token is what a location attends to most, its map has 1.
            ``"locations"`` stretches from the least to the most of each *token*, as the function's
            comments in the released code have it.

    Returns:
        T proposals. Their maps are what the paper merges. Their scores are the attention itself,
        so that an assigner gives each pixel to the token that it attends to most.

    Raises:
        ValueError: If the shape does not agree with the grid, or ``normalise`` is unknown.

    Example:
        >>> import torch
        >>> attention = torch.tensor([[0.2, 0.1], [0.0, 0.3]])  # two locations, two tokens
        >>> proposals = token_proposals(attention, grid=(1, 2))
        >>> len(proposals), proposals.compared.argmax(0).tolist()
        (2, [[0, 1]])
    """
    if normalise not in get_args(Normalise):
        raise ValueError(
            f"Expected argument `normalise` to be one of {get_args(Normalise)}, but got "
            f"{normalise!r}."
        )
    if attention.ndim != 2 or len(attention) != grid[0] * grid[1] or attention.shape[1] == 0:
        raise ValueError(
            f"Expected argument `attention` to be of shape ({grid[0] * grid[1]}, T) on a "
            f"{grid[0]}x{grid[1]} grid, but got {tuple(attention.shape)}."
        )
    dim = 1 if normalise == "tokens" else 0
    lowest = attention.amin(dim, keepdim=True)
    stretched = (attention - lowest) / (attention.amax(dim, keepdim=True) - lowest + _EPSILON)
    maps = torch.softmax(stretched, dim=0).mT
    return Proposals(maps.reshape(-1, *grid), scores=attention.mT.reshape(-1, *grid))
