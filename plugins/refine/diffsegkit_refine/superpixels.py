"""Superpixels vote: a superpixel goes as a whole to the segment that has most of it."""

import torch
from torch import Tensor

from diffsegkit import Assigner
from diffsegkit.assigners import RefiningAssigner
from diffsegkit.errors import ComponentError
from diffsegkit_refine.checks import check_count, check_positive


class SuperpixelAssigner(RefiningAssigner):
    """Each superpixel of Felzenszwalb and Huttenlocher (IJCV 2004) goes to one segment.

    Edges of segments are then edges of superpixels, which follow the image. With scikit-image's
    ``felzenszwalb``.

    Args:
        scale: Larger values give larger superpixels.
        sigma: Of the Gaussian that smooths the image before, in pixels.
        min_size: The fewest pixels that a superpixel has.
        assigner: Whose result is refined; ``ArgmaxAssigner`` by default.
        max_side: The longer side, in pixels, at which segments are refined at the most.

    Raises:
        ValueError: If an argument is out of its range.
        ComponentError: If scikit-image is not installed.
    """

    def __init__(
        self,
        scale: float = 100.0,
        sigma: float = 0.8,
        min_size: int = 20,
        assigner: Assigner | None = None,
        max_side: int = 512,
    ) -> None:
        super().__init__(assigner, max_side)
        self.scale = check_positive("scale", scale)
        self.sigma = check_positive("sigma", sigma)
        self.min_size = check_count("min_size", min_size)
        try:
            import skimage  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "skimage":
                raise
            raise ComponentError(
                "SuperpixelAssigner needs scikit-image: pip install "
                "'diffsegkit-refine[superpixels]'."
            ) from error

    def refine(self, masks: Tensor, image: Tensor) -> Tensor:
        """Let the superpixels of one image vote.

        Args:
            masks: ``(K, h, w)``.
            image: ``(3, h, w)`` in [0, 1].

        Returns:
            ``(K, h, w)``: the share of each pixel's superpixel that each segment has.
        """
        from skimage.segmentation import felzenszwalb

        pixels = image.permute(1, 2, 0).double().cpu().numpy()
        found = felzenszwalb(pixels, scale=self.scale, sigma=self.sigma, min_size=self.min_size)
        of = torch.from_numpy(found).to(masks.device).flatten()
        votes = masks.new_zeros(len(masks), int(of.max()) + 1)
        votes.index_add_(1, of, masks.flatten(1))
        shares = votes / votes.sum(0)
        return shares[:, of].reshape(masks.shape)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        own = f"scale={self.scale}, sigma={self.sigma}, min_size={self.min_size}"
        return f"{own}, {super().extra_repr()}"
