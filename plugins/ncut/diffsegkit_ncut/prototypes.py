"""DiffCut's assignment: each pixel to the segment whose mean feature is most like its own."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit import AggregatedAttention, Assigner, Proposals
from diffsegkit.kernels import upsampled_argmax
from diffsegkit_ncut.affinity import FeatureMaps, check_choice, joined_features


class PrototypeAssigner(Assigner):
    """Pixels by features, not by maps (DiffCut, section 3.3; ``generate_masks`` in its code).

    The proposals are brought to the grid of the features, each location going to the largest; the
    mean of a segment's unit feature vectors is its prototype. The features are upsampled
    bilinearly to ``side``, compared with the prototypes by scalar products, and the products are
    upsampled to the size of the photo, where the largest wins.

    Args:
        side: The longer side, in cells, to which features are upsampled; 128 in DiffCut. Never
            less than the features have.
        feature_maps: Whether the last of the source's feature maps counts, or the mean of all.

    Raises:
        ValueError: If ``side`` is below 1.
        UsageError: If the source gives no features (when called).
    """

    def __init__(self, side: int = 128, feature_maps: FeatureMaps = "last") -> None:
        super().__init__()
        if side < 1:
            raise ValueError(f"Expected argument `side` to be at least 1, but got {side}.")
        check_choice("feature_maps", feature_maps, FeatureMaps)
        self.side = side
        self.feature_maps: FeatureMaps = feature_maps

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
            aggregated: Its source has features.

        Returns:
            ``(B, H, W)`` int64, indices into each image's proposals.
        """
        features = joined_features(aggregated, type(self).__name__, self.feature_maps)
        pairs = zip(proposals, features, strict=True)
        return torch.stack([self._assign(own, unit, size) for own, unit in pairs])

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"side={self.side}, feature_maps={self.feature_maps!r}"

    def _assign(self, proposals: Proposals, features: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = features.shape[1:]
        parts = upsampled_argmax(proposals.compared, (height, width)).flatten()
        present, compact = torch.unique(parts, return_inverse=True)
        members = functional.one_hot(compact).to(features.dtype)
        prototypes = members.mT @ features.flatten(1).mT / members.sum(0)[:, None]
        scale = max(1.0, self.side / max(height, width))
        finer = (max(1, round(height * scale)), max(1, round(width * scale)))
        # A product with a prototype is linear in the features, so that it may be upsampled in
        # their place: (K, h, w) instead of (C, h, w).
        products = (prototypes @ features.flatten(1)).reshape(1, -1, height, width)
        fine = functional.interpolate(products, size=finer, mode="bilinear", align_corners=False)
        assigned: Tensor = present[upsampled_argmax(fine[0], size)]
        return assigned
