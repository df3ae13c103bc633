"""An assigner that refines what another assigned, looking at the image."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from diffsegkit.assigners.argmax import ArgmaxAssigner
from diffsegkit.assigners.guidance import guide_images
from diffsegkit.interfaces import AggregatedAttention, Assigner, Proposals
from diffsegkit.kernels import upsampled_argmax


class RefiningAssigner(Assigner):
    """Refines the label map of another assigner; a subclass writes :meth:`refine`.

    The other assigner works at the size of the label maps, or a smaller one with the same
    proportions: the longer side is at most ``max_side``, and at most that of the image which the
    source saw. What :meth:`refine` makes of its label map is upsampled bilinearly, and the largest
    score takes the pixel. Refiners can be nested, the innermost working first.

    Args:
        assigner: Whose result is refined; by default :class:`ArgmaxAssigner`.
        max_side: The longer side, in pixels, at which refining is done at the most.

    Raises:
        TypeError: If ``assigner`` is no assigner.
        ValueError: If ``max_side`` is below 1.
        UsageError: When called, if the image is not there.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, Proposals, SourceOutput
        >>> class ByBrightness(RefiningAssigner):
        ...     def refine(self, masks, image):
        ...         grey = image.mean(0)
        ...         means = (masks * grey).sum((1, 2)) / masks.sum((1, 2))
        ...         return -(grey - means[:, None, None]).abs()
        >>> proposals = Proposals(torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]]))
        >>> image = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 3, 1, 8)
        >>> output = SourceOutput([], proposals=[proposals], images=image)
        >>> aggregated = AggregatedAttention(torch.eye(2)[None], (1, 2), output)
        >>> ByBrightness()([proposals], (1, 8), aggregated=aggregated)
        tensor([[[0, 0, 0, 0, 0, 1, 1, 1]]])
    """

    def __init__(self, assigner: Assigner | None = None, max_side: int = 1024) -> None:
        super().__init__()
        if assigner is not None and not isinstance(assigner, Assigner):
            raise TypeError(
                f"Expected argument `assigner` to be an Assigner or None, but got {assigner!r}."
            )
        if not isinstance(max_side, int) or max_side < 1:
            raise ValueError(
                f"Expected argument `max_side` to be an integer, at least 1, but got {max_side!r}."
            )
        self.assigner = ArgmaxAssigner() if assigner is None else assigner
        self.max_side = max_side

    @abstractmethod
    def refine(self, masks: Tensor, image: Tensor) -> Tensor:
        """Score every pixel for every segment of one image.

        Args:
            masks: ``(K, H, W)``, of the dtype of the image: 1 where a segment is, 0 elsewhere. K is
                at least 2, and no segment is empty.
            image: ``(3, H, W)`` RGB in [0, 1], float32 (float64 if the source's images are).

        Returns:
            ``(K, H, W)``, floating point; the larger, the likelier.
        """

    def forward(
        self,
        proposals: Sequence[Proposals],
        size: tuple[int, int],
        *,
        aggregated: AggregatedAttention | None = None,
    ) -> Tensor:
        """Assign every pixel of every image.

        Args:
            proposals: One per image, B in all.
            size: ``(H, W)`` in pixels.
            aggregated: Its source has the images.

        Returns:
            ``(B, H, W)`` int64, indices into each image's proposals.
        """
        images = guide_images(aggregated, type(self).__name__, size, self.max_side)
        coarse: Tensor = self.assigner(
            proposals, (images.shape[2], images.shape[3]), aggregated=aggregated
        )
        pairs = zip(coarse, images.to(coarse.device), strict=True)
        return torch.stack([self._refined(labels, image, size) for labels, image in pairs])

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"max_side={self.max_side}"

    def _refined(self, labels: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
        present = torch.unique(labels)
        if len(present) == 1:
            only: Tensor = present.new_full(size, int(present))
            return only
        masks = (labels == present[:, None, None]).to(image.dtype)
        scores = self.refine(masks, image)
        if scores.shape != masks.shape or not scores.is_floating_point():
            raise ValueError(
                f"{type(self).__name__}.refine gave {scores.dtype} of shape {tuple(scores.shape)}; "
                f"expected floating point of shape {tuple(masks.shape)}."
            )
        assigned: Tensor = present[upsampled_argmax(scores, size)]
        return assigned
