"""PAMR: labels spread to neighbours of like colour, several times."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit import Assigner
from diffsegkit.assigners import RefiningAssigner
from diffsegkit_refine.checks import check_count
from diffsegkit_refine.windows import neighbours, ring

# In the original: how sharp the affinity is, and what keeps the division finite.
_SHARPNESS, _TINY = 0.1, 1e-8


class PAMRAssigner(RefiningAssigner):
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020, section 3.3).

    Each pixel takes the mean of its neighbours' labels, weighted by how alike their colours are,
    ``iterations`` times. DiffCut and DiffSeg's re-run in DiffCut's table use it. Iterations and
    dilations are the original's (``models/mods/pamr.py`` and its configurations in
    visinf/1-stage-wseg); DiffCut's are dilations 1, 2, 4, 8 on label maps of 128 x 128. The size is
    ours: labels of a grid are off by a cell or so, further than 10 iterations carry them at the
    size of a photo.

    Args:
        iterations: How many times.
        dilations: How far the neighbours are, in pixels; eight at each distance.
        assigner: Whose result is refined; ``ArgmaxAssigner`` by default.
        max_side: The longer side, in pixels, at which segments are refined at the most.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If there are no images to look at (when called).
    """

    def __init__(
        self,
        iterations: int = 10,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        assigner: Assigner | None = None,
        max_side: int = 256,
    ) -> None:
        super().__init__(assigner, max_side)
        self.iterations = check_count("iterations", iterations, 0)
        self.dilations = tuple(check_count("dilations", dilation) for dilation in dilations)
        if not self.dilations:
            raise ValueError("Expected argument `dilations` to hold at least one distance.")

    def refine(self, masks: Tensor, image: Tensor) -> Tensor:
        """Refine the segments of one image; see :func:`pamr`.

        Args:
            masks: ``(K, h, w)``.
            image: ``(3, h, w)`` in [0, 1].
        """
        return pamr(masks, image, self.iterations, self.dilations)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        own = f"iterations={self.iterations}, dilations={self.dilations}"
        return f"{own}, {super().extra_repr()}"


def pamr(
    masks: Tensor,
    image: Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
) -> Tensor:
    r"""Spread masks to neighbours of like colour.

    .. math:: m_i \leftarrow \sum_j \operatorname{softmax}_j\Bigl(-\tfrac13 \sum_c
        \frac{|x_{ic} - x_{jc}|}{0.1\, \sigma_{ic}}\Bigr)\, m_j

    with the standard deviation of each channel over the neighbourhood, in which the pixel itself
    counts once for each dilation, as in the original.

    Args:
        masks: ``(K, h, w)``, floating point.
        image: ``(C, h, w)``.
        iterations: How many times.
        dilations: Distances of the neighbours, in pixels.

    Returns:
        ``(K, h, w)``; where the masks add up to 1, these do.

    Example:
        >>> import torch
        >>> image = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(3, 6, 6)
        >>> mask = torch.zeros(1, 6, 6)
        >>> mask[:, :, :2] = 1  # one column short of the edge
        >>> (pamr(mask, image, 10, [1]) > 0.5)[0, 3].tolist()
        [True, True, True, False, False, False]
    """
    weights = _weights(image.to(masks.dtype), dilations)
    offsets = ring(dilations)
    for _ in range(iterations):
        spread = torch.zeros_like(masks)
        for weight, values in zip(weights, neighbours(masks, offsets), strict=True):
            spread.addcmul_(values, weight)
        masks = spread
    return masks


def _weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """``(P, h, w)``: what each neighbour counts; the P of a pixel add up to 1."""
    offsets = ring(dilations)
    # The deviations from the pixel's own colour: its own deviation is 0, once for each dilation.
    count = len(offsets) + len(dilations)
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for values in neighbours(image, offsets):
        deviation = values - image
        total += deviation
        squares += deviation.square()
    variance = (squares - total.square() / count).clamp_min(0) / (count - 1)
    scale = _TINY + _SHARPNESS * variance.sqrt()
    logits = [-((values - image).abs() / scale).mean(0) for values in neighbours(image, offsets)]
    return torch.stack(logits).softmax(0)
