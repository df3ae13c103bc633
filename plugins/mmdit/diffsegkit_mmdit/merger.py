"""Proposals that a source yields by itself, as they are or merged."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from diffsegkit import AggregatedAttention, Merger, MergingRound, Proposals
from diffsegkit.errors import UsageError
from diffsegkit.kernels import greedy_groups, pairwise_kl


class SourceProposalsMerger(Merger):
    """Takes the proposals of the source; the attention is not looked at.

    Without a threshold they are passed on, scores included: with those of text tokens every pixel
    goes to the token that it attends to most. With a threshold they are merged once, as Seg4Diff
    does (appendix A.4; ``mask_merge`` in its code): the proposals are walked in order; one that is
    already taken is skipped; otherwise all that are closer to it than the threshold, taken or not,
    are averaged into one, and taken. So the result depends on the order.

    Args:
        threshold: Distance in nats, see :func:`~diffsegkit.kernels.pairwise_kl`; None merges
            nothing.
        overlap: Whether a proposal that is already taken may enter later means too, as in the
            original.

    Raises:
        ValueError: If the threshold is not a positive number.
        UsageError: If the source yields no proposals (when called).

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, SourceOutput
        >>> maps = torch.tensor([[[0.5, 0.5]], [[0.4, 0.6]], [[0.1, 0.9]]])
        >>> output = SourceOutput([], proposals=[Proposals(maps)])
        >>> aggregated = AggregatedAttention(torch.eye(2)[None], (1, 2), output)
        >>> [merged] = SourceProposalsMerger(threshold=0.1)(aggregated)
        >>> merged.maps.squeeze(1)
        tensor([[0.4500, 0.5500],
                [0.1000, 0.9000]])
    """

    def __init__(self, threshold: float | None = None, overlap: bool = True) -> None:
        super().__init__()
        if threshold is not None and not (
            isinstance(threshold, (int, float)) and isfinite(threshold) and threshold > 0
        ):
            raise ValueError(
                "Expected argument `threshold` to be a positive distance in nats, or None to "
                f"merge nothing, but got {threshold!r}."
            )
        self.threshold = threshold
        self.overlap = overlap

    def forward(
        self,
        aggregated: AggregatedAttention,
        *,
        num_segments: Sequence[int] | None = None,  # noqa: ARG002
    ) -> list[Proposals]:
        """Merge each image's proposals.

        Args:
            aggregated: Its ``source`` has proposals.
            num_segments: Not looked at.

        Returns:
            B proposals; merged ones have no scores, and one more round on record.
        """
        source = aggregated.source
        if source is None or source.proposals is None:
            raise UsageError(
                "SourceProposalsMerger takes the proposals of the source, but it yields none; ask "
                "it for some (--source.proposals clip with StableDiffusion3Source, "
                "--source.proposals all with FluxSource), or use another merger."
            )
        return [self._merge(own) for own in source.proposals]

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"threshold={self.threshold}, overlap={self.overlap}"

    def _merge(self, proposals: Proposals) -> Proposals:
        if self.threshold is None:
            return proposals
        # In float64, because these maps are nearly even and their distances small; on the CPU,
        # because not every device has it, and tokens are few.
        maps = proposals.maps.flatten(1).cpu().double()
        members, seeds = greedy_groups(pairwise_kl(maps) < self.threshold, overlap=self.overlap)
        means = members.double() @ maps / members.sum(1, keepdim=True)
        device = proposals.maps.device
        merged = MergingRound(members.to(device), seeds.to(device), self.threshold)
        return replace(
            proposals,
            maps=means.to(proposals.maps).reshape(-1, *proposals.grid),
            scores=None,
            rounds=(*proposals.rounds, merged),
        )
