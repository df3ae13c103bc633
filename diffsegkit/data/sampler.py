"""Who evaluates which image, when several processes share a data set."""

from collections.abc import Iterator, Sequence

from torch.utils.data import DistributedSampler

PADDING = -1
"""An index that stands for no image."""


class EvaluationSampler(DistributedSampler[int]):
    """This process's share of the images: together, all processes see each image exactly once.

    PyTorch's own sampler repeats images until all shares are equally long, and so counts some
    twice. This one pads with :data:`PADDING` instead, for which nothing is loaded. All processes
    have equally many entries, at least one, and so run the same number of steps, even with more
    processes than images. Lightning leaves a ``DistributedSampler`` as it is.

    Args:
        indices: The images to share out.
        rank: Which process this is.
        world_size: How many there are.

    Raises:
        ValueError: If the rank is not below the world size.

    Example:
        >>> [list(EvaluationSampler([0, 1, 2], rank=rank, world_size=2)) for rank in (0, 1)]
        [[0, 2], [1, -1]]
    """

    def __init__(self, indices: Sequence[int], *, rank: int = 0, world_size: int = 1) -> None:
        # The base class asks its data set for nothing but the length.
        super().__init__(
            indices,  # type: ignore[arg-type]
            num_replicas=world_size,
            rank=rank,
            shuffle=False,
        )
        self.indices = indices
        self.num_samples = max(1, -(-len(indices) // world_size))
        self.total_size = self.num_samples * world_size

    def __iter__(self) -> Iterator[int]:
        share = list(self.indices[self.rank :: self.num_replicas])
        yield from share + [PADDING] * (self.num_samples - len(share))

    def __len__(self) -> int:
        return self.num_samples
