"""DiffSeg's aggregation: a weighted sum over resolutions."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from diffsegkit.interfaces import AggregatedAttention, Aggregator, AttentionMap, SourceOutput
from diffsegkit.interfaces.checks import Grid, check_grid


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

    Raises:
        ValueError: If the weighting is unknown, negative or zero altogether, or if a grid it
            lists is not among the maps (when called).

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
        self.weighting = weighting
        self.grid = None if grid is None else (grid[0], grid[1])

    def forward(self, output: SourceOutput) -> AggregatedAttention:
        """Aggregate the self-attention of a batch of images.

        Args:
            output: Attention at one or several grids.

        Returns:
            ``(B, N, N)`` float32 on ``grid``.
        """
        by_grid = _group_by_grid(output.attention)
        target = self.grid or max(by_grid, key=lambda grid: grid[0] * grid[1])
        total: Tensor | None = None
        for grid, weight in self._weights(by_grid).items():
            mean = _mean_over_layers(by_grid[grid])
            total = _add_resized(total, mean, grid, target, weight)
        assert total is not None  # _weights gives at least one grid
        return AggregatedAttention(total, target, source=output)

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"weighting={self.weighting!r}, grid={self.grid}"

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
            raw = {grid: float(max(grid) * _num_layers(maps)) for grid, maps in by_grid.items()}
        else:
            raw = {grid: float(max(grid)) for grid in by_grid}
        total = sum(raw.values())
        return {grid: weight / total for grid, weight in raw.items() if weight}


def _group_by_grid(attention: Sequence[AttentionMap]) -> dict[Grid, list[AttentionMap]]:
    groups: dict[Grid, list[AttentionMap]] = {}
    for layer in attention:
        groups.setdefault(layer.grid, []).append(layer)
    return groups


def _num_layers(maps: Sequence[AttentionMap]) -> int:
    return sum(layer.count for layer in maps)


def _mean_over_layers(maps: Sequence[AttentionMap]) -> Tensor:
    """``(B, n, n)`` float32 mean over the layers of one grid, counting averaged ones fully."""
    if len(maps) == 1:
        return maps[0].probs.float()
    layers = _num_layers(maps)
    mean = maps[0].probs.float() * (maps[0].count / layers)
    for layer in maps[1:]:
        mean.add_(layer.probs, alpha=layer.count / layers)
    return mean


def _add_resized(
    total: Tensor | None, probs: Tensor, grid: Grid, target: Grid, weight: float
) -> Tensor:
    """Add ``weight`` times ``probs``, brought from ``grid`` to ``target``, to ``total``.

    Args:
        total: ``(B, N, N)`` to add to in place, or None to start one.
        probs: ``(B, n, n)`` float32.
        grid: The grid of ``probs``.
        target: The grid of ``total``.
        weight: What each map of ``probs`` is to sum to.

    Returns:
        ``(B, N, N)``.
    """
    keys = _resize_keys(probs, grid, target, weight)
    if total is None:
        return _repeat_queries(keys, grid, target)
    if target[0] % grid[0] == 0 and target[1] % grid[1] == 0:
        # Whole ratios need no repeated copy: each block of queries takes the same map.
        repeats = (target[0] // grid[0], target[1] // grid[1])
        blocks = rearrange(
            total,
            "b (h i w j) n -> b h i w j n",
            h=grid[0], i=repeats[0], w=grid[1], j=repeats[1],
        )  # fmt: skip
        blocks.add_(rearrange(keys, "b (h w) n -> b h 1 w 1 n", h=grid[0]))
        return total
    return total.add_(_repeat_queries(keys, grid, target))


def _resize_keys(probs: Tensor, grid: Grid, target: Grid, weight: float) -> Tensor:
    """``(B, n, n)`` to ``(B, n, N)``, bilinear over the keys; each map sums to ``weight``."""
    if grid == target:
        return probs * (weight / probs.sum(-1, keepdim=True))
    maps = rearrange(probs, "b q (h w) -> b q h w", h=grid[0])
    # Towards a coarser grid every key must count, not only the four nearest: antialias.
    shrinks = target[0] < grid[0] or target[1] < grid[1]
    maps = functional.interpolate(maps, size=target, mode="bilinear", antialias=shrinks)
    keys = maps.flatten(2)
    return keys.mul_(weight / keys.sum(-1, keepdim=True))


def _repeat_queries(keys: Tensor, grid: Grid, target: Grid) -> Tensor:
    """``(B, n, N)`` to ``(B, N, N)``: each query of ``target`` takes the nearest of ``grid``."""
    if grid == target:
        return keys
    rows, columns = (
        # floor((i + 1/2) n / N) in whole numbers: the cell in which the centre of cell i lies.
        (2 * torch.arange(new, device=keys.device) + 1) * old // (2 * new)
        for old, new in zip(grid, target, strict=True)
    )
    return keys[:, (rows[:, None] * grid[1] + columns).flatten()]
