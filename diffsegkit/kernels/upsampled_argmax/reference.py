"""The argmax of upsampled maps in PyTorch, for any device and dtype: a tile at a time.

Bilinear interpolation never leaves the range of the values between which it interpolates. So in a
tile only those maps can win whose largest value around it is not below what some other map has
everywhere around it; most often that is a few, or one. Tiles are processed together, each with the
first of its candidates, then those that have a second with that, and so on: work only where it
can matter, in few calls.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

# A tile spans this many cells of the grid, within these bounds in pixels: small enough that few
# maps can win in it, large enough that what is done per tile does not count.
_TILE_CELLS = 4
_MIN_TILE_PIXELS = 32
_MAX_TILE_PIXELS = 128
# So many pixels are processed together, in whole rows of tiles: more than a cache holds gain
# nothing, and each takes about 30 bytes until its label is known.
_BAND_PIXELS = 2**18


@dataclass(frozen=True, eq=False)
class _Tiles:
    """One axis, cut into tiles of equal length; the last may hang over the end."""

    count: int
    """Of tiles."""
    pixels: int
    """Of a tile."""
    cells: Tensor
    """``(count, span)`` int64: of the grid, all that a tile's pixels lie between."""
    before: Tensor
    """``(count, pixels)`` int64: of a tile's cells, the one before each pixel."""
    after: Tensor
    """Likewise, the one after."""
    between: Tensor
    """``(count, pixels)``, in the dtype of the maps: how far each pixel is from the one before."""

    @property
    def number(self) -> int:
        """How many tiles there are."""
        return self.cells.shape[0]

    @property
    def span(self) -> int:
        """How many cells a tile has."""
        return self.cells.shape[1]


def upsampled_argmax_reference(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels of the pixels, a band of tiles at a time.

    Args:
        maps: ``(K, h, w)``, float32 or float64, contiguous.
        size: ``(H, W)`` in pixels.

    Returns:
        ``(H, W)`` int64.
    """
    height, width = size
    rows, columns = _tiles(maps.shape[1], height, maps), _tiles(maps.shape[2], width, maps)
    able, finite = _able(maps, rows, columns)
    labels = torch.empty(size, dtype=torch.int64, device=maps.device)
    step = max(1, _BAND_PIXELS // (rows.pixels * width))
    for first in range(0, rows.number, step):
        band = _band(maps, rows, columns, first, able[first : first + step], finite)
        own = labels[first * rows.pixels :][: len(band)]
        own.copy_(band[: len(own), :width])  # without what hangs over
    return labels


def neighbours(cells: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the centres of pixels lie between the centres of cells, along one axis.

    Args:
        cells: How many there are.
        pixels: How many cover them.

    Returns:
        For each pixel the cell before it and the one after, int64, and how far between them it
        lies, float64 in [0, 1), all ``(pixels,)`` and on the CPU, as not every device has float64.
    """
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * cells / pixels - 0.5
    position = position.clamp(0, cells - 1)
    before = position.floor().long()
    return before, (before + 1).clamp(max=cells - 1), position - before


def _tiles(cells: int, pixels: int, like: Tensor) -> _Tiles:
    """Cut one axis of ``pixels`` over ``cells`` into tiles."""
    most = min(max(_TILE_CELLS * pixels // cells, _MIN_TILE_PIXELS), _MAX_TILE_PIXELS)
    step = -(-pixels // -(-pixels // most))
    count = -(-pixels // step)
    each = torch.arange(count * step).clamp(max=pixels - 1).reshape(count, step)
    before, after, between = (values[each] for values in neighbours(cells, pixels))
    first, last = before[:, :1], after[:, -1:]
    span = int((last - first).max()) + 1
    around = (first + torch.arange(span)).clamp(max=cells - 1)
    around, before, after = (
        values.to(like.device) for values in (around, before - first, after - first)
    )
    return _Tiles(count, step, around, before, after, between.to(like))


def _able(maps: Tensor, rows: _Tiles, columns: _Tiles) -> tuple[Tensor, bool]:
    """Which maps can win in which tiles.

    Returns:
        ``(tile rows, tile columns, K)`` bool, and whether all maps are finite.
    """
    wide = maps[:, :, columns.cells]
    bounds = []
    for extreme in (torch.amax, torch.amin):
        tall = extreme(wide, 3)[:, rows.cells]
        bounds.append(extreme(tall, 2).permute(1, 2, 0))
    highest, lowest = bounds
    finite = highest.isfinite() & lowest.isfinite()
    # With NaN in one place a map is not above anything everywhere, but may win in another. So may
    # one with infinities, as NaN results between them.
    floor = lowest.masked_fill(~finite, -inf).amax(2, keepdim=True)
    return ~(highest < floor), bool(finite.all())


def _band(
    maps: Tensor, rows: _Tiles, columns: _Tiles, first: int, able: Tensor, finite: bool
) -> Tensor:
    """Labels of some rows of tiles.

    Args:
        maps: ``(K, h, w)``.
        rows: Of the whole image.
        columns: Likewise.
        first: The first row of tiles.
        able: ``(n, columns.number, K)`` bool: which maps can win.
        finite: Whether all maps are.

    Returns:
        ``(n * rows.pixels, columns.number * columns.pixels)``, whole numbers in the dtype of the
        maps.
    """
    device, width = maps.device, maps.shape[2]
    able = able.flatten(0, 1)
    # Tiles with many candidates first: those that still have one to try are the first of all.
    sizes, order = able.sum(1).sort(descending=True)
    counts = sizes.tolist()
    # (most candidates, tiles): each tile's, in their order.
    candidates = (
        able[order].byte().sort(dim=1, descending=True, stable=True).indices[:, : counts[0]].T
    )
    tile_rows, tile_columns = order // columns.number + first, order % columns.number

    # Where each tile's cells are in a map, (tiles, rows.span, columns.span) ...
    cells = (rows.cells[tile_rows] * width)[:, :, None] + columns.cells[tile_columns][:, None]
    # ... and among the cells of all tiles, the one left of each column of pixels and the one right
    # of it, then among the rows that these give, the one above each row of pixels and that below.
    start = torch.arange(0, cells.numel(), columns.span, device=device)
    start = start.reshape(-1, rows.span, 1)
    left = (start + columns.before[tile_columns][:, None]).flatten()
    right = (start + columns.after[tile_columns][:, None]).flatten()
    across = columns.between[tile_columns][:, None].expand(-1, rows.span, -1).flatten()
    start = torch.arange(0, len(order) * rows.span, rows.span, device=device)[:, None]
    above = (start + rows.before[tile_rows]).flatten()
    below = (start + rows.after[tile_rows]).flatten()
    down = rows.between[tile_rows][:, :, None]

    values, size = maps.flatten(), maps[0].numel()
    # In floating point, as PyTorch's loops over it are vectorised; exact up to 2^24 maps.
    labels = candidates[0].to(maps)[:, None, None].repeat(1, rows.pixels, columns.pixels)
    # A tile with one candidate is done; one with two needs the values of both.
    left_over = [sum(count > max(rank, 1) for count in counts) for rank in range(counts[0])]
    # Written over at each rank: fresh memory would cost as much as what is computed in it.
    best, value, other = labels.new_empty(3, left_over[0], *labels.shape[1:])
    for rank, tiles in enumerate(left_over):
        index = candidates[rank, :tiles, None, None]
        near = values.index_select(0, (cells[:tiles] + index * size).flatten())
        # Separable: the columns first, on the grid's few rows ...
        here = slice(tiles * rows.span * columns.pixels)
        wide = torch.lerp(
            near.index_select(0, left[here]), near.index_select(0, right[here]), across[here]
        ).reshape(-1, columns.pixels)
        # ... then each row of pixels between the two rows of the grid around it.
        here = slice(tiles * rows.pixels)
        new, old = (value if rank else best)[:tiles], best[:tiles]
        larger = other[:tiles]
        torch.index_select(wide, 0, above[here], out=new.flatten(0, 1))
        torch.index_select(wide, 0, below[here], out=larger.flatten(0, 1))
        torch.lerp(new, larger, down[:tiles], out=new)
        if not finite:
            new.nan_to_num_(nan=-inf, posinf=inf, neginf=-inf)
        if rank:
            torch.gt(new, old, out=larger)
            torch.lerp(labels[:tiles], index.to(maps), larger, out=labels[:tiles])
            torch.maximum(old, new, out=old)
    # Back in order, and from tiles to rows of the image.
    places = order.argsort().reshape(-1, 1, columns.number) * rows.pixels
    places = places + torch.arange(rows.pixels, device=device)[:, None]
    image = labels.flatten(0, 1).index_select(0, places.flatten())
    return image.reshape(-1, columns.number * columns.pixels)
