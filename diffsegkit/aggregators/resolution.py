"""DiffSeg's aggregation: a weighted sum over resolutions."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor

from diffsegkit.aggregators.half import HalfAttention
from diffsegkit.aggregators.levels import Level, add_levels, bands
from diffsegkit.aggregators.recomputed import RecomputedAttention
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import (
    AggregatedAttention,
    Aggregator,
    AttentionMap,
    SourceOutput,
    validation,
)
from diffsegkit.interfaces.checks import Grid, check_grid
from diffsegkit.interfaces.half import to_half

Storage = Literal["auto", "float32", "float16", "recomputed"]
"""How an aggregate is held."""

# Above this many locations "auto" keeps no aggregate: 256 MiB in float32 for each image.
_LOCATIONS_IN_MEMORY = 2**13


class ResolutionAggregator(Aggregator):
    """Brings every map to one grid and adds them up with a weight per resolution.

    As in the original (paper, section 3.2; ``aggregate_weights`` in its code): the layers of one
    resolution are averaged; the *key* axes are upsampled bilinearly and each map is renormalised;
    the *query* axes are repeated; the resolutions are added with normalised weights. Grids need
    not be square, and their ratios need not be whole numbers.

    Args:
        weighting: ``"resolution"`` weighs each resolution by its longer side, as the original's
            code does. ``"layer"`` weighs each *layer* by its longer side, as the paper's text
            reads: with Stable Diffusion's 5, 5, 5 and 1 layers that is 5*64 : 5*32 : 5*16 : 8.
            A mapping gives the weight by longer side, such as ``{64: 2, 32: 1}``; what is not
            listed weighs 0.
        grid: ``(h, w)`` to aggregate to, in cells. The default is the finest among the maps.
        storage: How the result is held. ``"float32"``: as a tensor. ``"float16"``: in half the
            memory, times 2**15; a few pixels in ten thousand may change. ``"recomputed"``: not at
            all, each row is computed when a merger asks for it; DiffSeg's merger, which asks once,
            is as fast, K-means slower. ``"auto"`` takes float32 up to 8192 locations (a grid of
            90 x 90), and recomputes beyond.

    Raises:
        ValueError: If the weighting or storage is unknown, or a weighting is negative or zero
            altogether, or if a grid it lists is not among the maps (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AttentionMap, SourceOutput
        >>> fine = AttentionMap(torch.full((1, 16, 16), 1 / 16), grid=(4, 4))
        >>> coarse = AttentionMap(torch.full((1, 4, 4), 1 / 4), grid=(2, 2))
        >>> ResolutionAggregator()(SourceOutput([fine, coarse])).probs.shape
        torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        weighting: Literal["resolution", "layer"] | Mapping[int, float] = "resolution",
        grid: Grid | None = None,
        storage: Storage = "auto",
    ) -> None:
        super().__init__()
        if isinstance(weighting, Mapping):
            # From JSON the sides come as text.
            weighting = {int(side): float(weight) for side, weight in weighting.items()}
            if not all(0 <= weight < inf for weight in weighting.values()) or not any(
                weighting.values()
            ):
                raise ValueError(
                    "Expected argument `weighting` to map a grid's longer side to a weight >= 0, "
                    f"with at least one above 0, but got {weighting}."
                )
        elif weighting not in ("resolution", "layer"):
            raise ValueError(
                "Expected argument `weighting` to be 'resolution', 'layer' or a mapping such as "
                f"{{64: 2, 32: 1}}, but got {weighting!r}."
            )
        if grid is not None:
            check_grid(tuple(grid), "argument `grid`")
        if storage not in get_args(Storage):
            raise ValueError(
                f"Expected argument `storage` to be one of {get_args(Storage)}, but got "
                f"{storage!r}."
            )
        self.weighting = weighting
        self.storage = storage
        self.grid = None if grid is None else (grid[0], grid[1])

    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """Aggregate the self-attention of a batch of images.

        Args:
            output: Attention at one or several grids.

        Returns:
            ``(B, N, N)`` on ``grid``, held as ``storage`` says.

        Raises:
            UsageError: If the source gave no attention.
        """
        if not output.attention:
            raise UsageError(
                "ResolutionAggregator aggregates attention, but the source gave none; ask it for "
                "some (--source.layers null with StableDiffusionSource), or use an aggregator of "
                "features."
            )
        by_grid = _group_by_grid(output.attention)
        target = self.grid or max(by_grid, key=lambda grid: grid[0] * grid[1])
        weights = self._weights(by_grid)
        levels = [Level(by_grid[grid], weight) for grid, weight in weights.items()]
        storage = self.storage
        if storage == "auto":
            small = target[0] * target[1] <= _LOCATIONS_IN_MEMORY
            storage = "float32" if small else "recomputed"
        if storage == "recomputed":
            return RecomputedAttention(levels, target, output)
        dtype = torch.float16 if storage == "float16" else torch.float32
        total = _compute(levels, target, dtype)
        if storage == "float16":
            return HalfAttention(total, target, output)
        with validation(False):  # a weighted sum of what was checked
            return AggregatedAttention(total, target, source=output)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"weighting={self.weighting!r}, grid={self.grid}, storage={self.storage!r}"

    def _weights(self, by_grid: Mapping[Grid, Sequence[AttentionMap]]) -> dict[Grid, float]:
        """The normalised weight of each grid, without those that weigh nothing."""
        if isinstance(self.weighting, dict):
            absent = {s for s, weight in self.weighting.items() if weight} - {
                max(grid) for grid in by_grid
            }
            if absent:
                raise ValueError(
                    f"The weighting lists grids with longer side {sorted(absent)}, but the source "
                    f"gives {sorted({max(grid) for grid in by_grid}, reverse=True)}; list only "
                    "these."
                )
            raw = {grid: float(self.weighting.get(max(grid), 0)) for grid in by_grid}
        elif self.weighting == "layer":
            raw = {
                grid: float(max(grid) * sum(layer.count for layer in maps))
                for grid, maps in by_grid.items()
            }
        else:
            raw = {grid: float(max(grid)) for grid in by_grid}
        total = sum(raw.values())
        return {grid: weight / total for grid, weight in raw.items() if weight}


def _group_by_grid(attention: Sequence[AttentionMap]) -> dict[Grid, list[AttentionMap]]:
    groups: dict[Grid, list[AttentionMap]] = {}
    for layer in attention:
        groups.setdefault(layer.grid, []).append(layer)
    return groups


def _compute(levels: Sequence[Level], target: Grid, dtype: torch.dtype) -> Tensor:
    """The whole aggregate, ``(B, N, N)``, band by band; float16 is scaled."""
    probs, locations = levels[0].maps[0].probs, target[0] * target[1]
    total = torch.empty((len(probs), locations, locations), dtype=dtype, device=probs.device)
    for first, last in bands(levels, target):
        band = total[:, first * target[1] : last * target[1]]
        wide = band if dtype == torch.float32 else torch.empty_like(band, dtype=torch.float32)
        add_levels(wide.zero_(), levels, target, first, last)
        if wide is not band:
            band.copy_(to_half(wide))
    return total
