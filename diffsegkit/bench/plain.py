"""The obvious PyTorch, to compare with: the original's steps as one would write them down."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from diffsegkit.mergers.anchors.grid import evenly_spaced

THRESHOLD = 1.1
"""The paper's for COCO-Stuff, in every round."""

_ROUNDS = 3
# Of a broadcast, at a time. Less is slower on a GPU, and more does not fit the smaller ones.
_BROADCAST_BYTES = {"cpu": 64 * 2**20, "cuda": 2**30}


def post_process(maps: Mapping[int, Tensor], points_per_side: int, pixels: int) -> Tensor:
    """Aggregation, merging and assignment.

    Args:
        maps: ``(B, side^2, side^2)`` attention by side.
        points_per_side: Of the grid of anchors.
        pixels: Height and width of the label map.

    Returns:
        ``(B, pixels, pixels)`` int64.
    """
    labels = []
    for image in range(len(next(iter(maps.values())))):
        total = aggregate({side: probs[image] for side, probs in maps.items()})
        labels.append(assign(merge(total, points_per_side), pixels))
    return torch.stack(labels)


def aggregate(maps: Mapping[int, Tensor]) -> Tensor:
    """One resolution after the other: upsample the keys, repeat the queries, add.

    Args:
        maps: ``(side^2, side^2)`` attention by side; the largest side is the target.

    Returns:
        ``(N, N)``.
    """
    target = max(maps)
    total = torch.zeros_like(maps[target])
    for side, probs in maps.items():
        keys = functional.interpolate(
            probs.reshape(1, side**2, side, side), size=(target, target), mode="bilinear"
        )[0]
        keys = keys / keys.sum((1, 2), keepdim=True)
        repeat = target // side
        queries = keys.reshape(side, side, target, target)
        queries = queries.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)
        total += queries.reshape(target**2, target**2) * (side / sum(maps))
    return total


def merge(total: Tensor, points_per_side: int) -> Tensor:
    """Round 0 with all maps, then two rounds among the proposals.

    Args:
        total: ``(N, N)``.
        points_per_side: Of the grid of anchors.

    Returns:
        Proposals ``(K, N)``.
    """
    side = round(len(total) ** 0.5)
    axis = torch.tensor(evenly_spaced(side, points_per_side), device=total.device)
    proposals, _ = absorb(total[(axis[:, None] * side + axis).flatten()], total)
    for _ in range(_ROUNDS - 1):
        close = (distance(proposals, proposals) < THRESHOLD).cpu()
        taken: set[int] = set()
        merged = []
        for index, row in enumerate(close):
            if index not in taken:
                members = row.nonzero().flatten().tolist()
                taken.update(members)
                merged.append(proposals[members].mean(0))
        proposals = torch.stack(merged)
    return proposals


def absorb(anchors: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of all maps close to each anchor, and their sum.

    Args:
        anchors: ``(M, N)``.
        maps: ``(K, N)``.

    Returns:
        Two of ``(M, N)``.
    """
    close = distance(anchors, maps) < THRESHOLD
    sums = close.float() @ maps
    return sums / close.sum(1, keepdim=True), sums


def assign(proposals: Tensor, pixels: int) -> Tensor:
    """Upsample everything, then take the largest.

    Args:
        proposals: ``(K, N)``, on a square grid.
        pixels: Height and width of the label map.

    Returns:
        ``(pixels, pixels)`` int64.
    """
    side = round(proposals.shape[1] ** 0.5)
    upsampled = functional.interpolate(
        proposals.reshape(1, -1, side, side), size=(pixels, pixels), mode="bilinear"
    )
    return upsampled[0].argmax(0)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Half the sum of both KL divergences between all rows, as matrix products.

    Args:
        x: ``(M, N)``, above 0.
        y: ``(K, N)`` likewise.

    Returns:
        ``(M, K)`` in nats.
    """
    log_x, log_y = x.log(), y.log()
    entropies = (x * log_x).sum(1)[:, None] + (y * log_y).sum(1)
    return (entropies - x @ log_y.T - log_x @ y.T) / 2


def broadcast_distance(x: Tensor, y: Tensor) -> Tensor:
    """The same as its definition reads, as many rows at a time as memory allows.

    Args:
        x: ``(M, N)``, above 0.
        y: ``(K, N)`` likewise.

    Returns:
        ``(M, K)`` in nats.
    """
    log_x, log_y = x.log(), y.log()
    step = max(1, _BROADCAST_BYTES[x.device.type] // (y.numel() * y.element_size()))
    blocks = [
        ((own[:, None] - y) * (log_own[:, None] - log_y)).sum(2) / 2
        for own, log_own in zip(torch.split(x, step), torch.split(log_x, step), strict=True)
    ]
    return torch.cat(blocks)
