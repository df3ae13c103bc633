"""Feature maps, for parts whose papers compare features rather than attention."""

from torch import Tensor

from diffsegkit.errors import UsageError
from diffsegkit.interfaces.attention import AggregatedAttention, SourceOutput


def require_features(
    given: AggregatedAttention | SourceOutput | None, who: str, *, index: int = -1
) -> Tensor:
    """A feature map of the source, or one sentence about how to get one.

    Args:
        given: What an aggregator, a merger or an assigner was given.
        who: The name of the part that needs features, for the message.
        index: Which of the source's feature maps; by default the last, which is the deepest.

    Returns:
        ``(B, C, h, w)`` float32 (float64 if the features are); its grid may differ from that of the
        attention.

    Raises:
        UsageError: If the source gave no features, or not so many.

    Example:
        >>> import torch
        >>> from diffsegkit import AggregatedAttention, SourceOutput
        >>> output = SourceOutput([], features=[torch.ones(1, 8, 2, 3)])
        >>> aggregated = AggregatedAttention(torch.eye(6)[None], grid=(2, 3), source=output)
        >>> require_features(aggregated, "MyMerger").shape
        torch.Size([1, 8, 2, 3])
    """
    output = given.source if isinstance(given, AggregatedAttention) else given
    features = () if output is None else output.features
    if not -len(features) <= index < len(features):
        number = f"{len(features)} feature maps" if features else "none"
        raise UsageError(
            f"{who} compares features, but the source gave {number}; ask it for some, such as "
            "--source.features key with VisionTransformerSource, or --source.features "
            '"[down_blocks.2]" with StableDiffusionSource.'
        )
    chosen = features[index]
    return chosen if chosen.is_floating_point() and chosen.element_size() >= 4 else chosen.float()
