"""A conditional random field whose pixels see a window around them."""

from math import exp

import torch
from torch import Tensor

from diffsegkit import Assigner
from diffsegkit.assigners import RefiningAssigner
from diffsegkit_refine.checks import check_count, check_not_negative, check_positive
from diffsegkit_refine.windows import neighbours, square


class ConvCRFAssigner(RefiningAssigner):
    """Mean-field inference in a CRF (Krähenbühl and Koltun, NeurIPS 2011), cut to a window.

    Neighbours want the same label, the more so the nearer and the more alike in colour they are.
    The original connects all pairs of pixels, with a permutohedral lattice; here, as in
    convolutional CRFs (Teichmann and Cipolla, 2018), a pixel sees the window around it, every
    ``dilation``-th pixel of it. Both kernels are normalised over the window, so that their weights
    mean the same anywhere. The defaults were chosen on 104 photos.

    Args:
        iterations: Of mean-field inference.
        radius: Half the side of the window, in steps of ``dilation``.
        dilation: In pixels.
        sigma_space: Of the appearance kernel's distances, in pixels.
        sigma_colour: Of its colours, whose channels are from 0 to 1.
        appearance: The weight of the appearance kernel.
        smoothness: The weight of the kernel of distances alone, whose sigma is ``dilation``.
        confidence: The probability that a label is right before anything else is known, above
            one half.
        assigner: Whose result is refined; ``ArgmaxAssigner`` by default.
        max_side: The longer side, in pixels, at which segments are refined at the most.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: If there are no images to look at (when called).
    """

    def __init__(
        self,
        iterations: int = 5,
        radius: int = 4,
        dilation: int = 4,
        sigma_space: float = 16.0,
        sigma_colour: float = 0.05,
        appearance: float = 10.0,
        smoothness: float = 1.0,
        confidence: float = 0.7,
        assigner: Assigner | None = None,
        max_side: int = 256,
    ) -> None:
        super().__init__(assigner, max_side)
        self.iterations = check_count("iterations", iterations, 0)
        self.radius = check_count("radius", radius)
        self.dilation = check_count("dilation", dilation)
        self.sigma_space = check_positive("sigma_space", sigma_space)
        self.sigma_colour = check_positive("sigma_colour", sigma_colour)
        self.appearance = check_not_negative("appearance", appearance)
        self.smoothness = check_not_negative("smoothness", smoothness)
        # With less, of two labels the other would be the likelier one.
        if not 0.5 < confidence < 1:
            raise ValueError(
                f"Expected argument `confidence` to be above 0.5 and below 1, but got {confidence}."
            )
        self.confidence = confidence

    def refine(self, masks: Tensor, image: Tensor) -> Tensor:
        """Refine the segments of one image; see :func:`mean_field`.

        Args:
            masks: ``(K, h, w)``.
            image: ``(3, h, w)`` in [0, 1].
        """
        # What is left of the probability goes to the other labels in equal parts.
        other = (1 - self.confidence) / (len(masks) - 1)
        probs = other + masks * (self.confidence - other)
        return mean_field(
            probs.log(),
            image,
            iterations=self.iterations,
            radius=self.radius,
            dilation=self.dilation,
            sigma_space=self.sigma_space,
            sigma_colour=self.sigma_colour,
            appearance=self.appearance,
            smoothness=self.smoothness,
        )

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"iterations={self.iterations}, radius={self.radius}, dilation={self.dilation}, "
            f"sigma_space={self.sigma_space}, sigma_colour={self.sigma_colour}, "
            f"appearance={self.appearance}, smoothness={self.smoothness}, "
            f"confidence={self.confidence}, {super().extra_repr()}"
        )


def mean_field(
    unary: Tensor,
    image: Tensor,
    *,
    iterations: int,
    radius: int,
    dilation: int,
    sigma_space: float,
    sigma_colour: float,
    appearance: float,
    smoothness: float,
) -> Tensor:
    r"""Mean-field inference with Potts potentials.

    .. math:: q_i(l) \propto \exp\Bigl(u_i(l) + \sum_j k_{ij}\, q_j(l)\Bigr)

    Args:
        unary: ``(K, h, w)``: the logarithms of the labels' probabilities.
        image: ``(C, h, w)``.
        iterations: How many times all pixels are updated, at once.
        radius: Half the side of the window, in steps.
        dilation: How many pixels a step is.
        sigma_space: Of the appearance kernel, in pixels.
        sigma_colour: Of the appearance kernel, in units of the image.
        appearance: The sum of a pixel's appearance kernel over its window.
        smoothness: The sum of its smoothness kernel.

    Returns:
        ``(K, h, w)``: probabilities, which add up to 1 over the labels.
    """
    offsets = square(radius, dilation)
    kernel = _kernel(image, offsets, sigma_space, sigma_colour, appearance, smoothness, dilation)
    probs = unary.softmax(0)
    for _ in range(iterations):
        message = torch.zeros_like(unary)
        for weight, values in zip(kernel, neighbours(probs, offsets), strict=True):
            message.addcmul_(values, weight)
        probs = (unary + message).softmax(0)
    return probs


def _kernel(
    image: Tensor,
    offsets: list[tuple[int, int]],
    sigma_space: float,
    sigma_colour: float,
    appearance: float,
    smoothness: float,
    dilation: int,
) -> Tensor:
    """``(P, h, w)``: how much each neighbour counts; those beyond the border not at all."""
    height, width = image.shape[1:]
    rows = torch.arange(height, device=image.device)[:, None]
    columns = torch.arange(width, device=image.device)
    bilateral, spatial = [], []
    for (down, right), values in zip(offsets, neighbours(image, offsets), strict=True):
        exists = (
            (rows + down >= 0) & (rows + down < height)
            & (columns + right >= 0) & (columns + right < width)
        )  # fmt: skip
        distance = float(down**2 + right**2)
        contrast = (values - image).square().sum(0)
        logit = -distance / (2 * sigma_space**2) - contrast / (2 * sigma_colour**2)
        bilateral.append(torch.exp(logit) * exists)
        spatial.append(exists.to(image.dtype) * exp(-distance / (2 * dilation**2)))
    looks, nearness = torch.stack(bilateral), torch.stack(spatial)
    tiny = 1e-12
    return appearance * looks / looks.sum(0).clamp_min(tiny) + (
        smoothness * nearness / nearness.sum(0).clamp_min(tiny)
    )
