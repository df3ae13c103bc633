"""Many variants of one segmenter that share its attention."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from diffsegkit.configuration import segmenter_from_configuration, whole_method_from_configuration
from diffsegkit.errors import UsageError
from diffsegkit.evaluation.memo import SharedAggregator, SharedSource


def build_sweep(
    configuration: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]
) -> dict[str, nn.Module]:
    """Build a method per variant; attention is extracted, and aggregated, once for all alike.

    Args:
        configuration: The common configuration, complete.
        variants: By name what each changes, as :meth:`Segmenter.from_preset` takes it; or
            ``{"segmenter": ...}``, a whole method to compare with.

    Returns:
        The methods by name.

    Raises:
        UsageError: If a variant cannot be built; the message names it.
    """
    base = segmenter_from_configuration(configuration, {})
    source = SharedSource(base.source)
    aggregators: dict[str, SharedAggregator] = {}
    methods: dict[str, nn.Module] = {}
    for name, changes in variants.items():
        if not isinstance(changes, Mapping):
            raise UsageError(
                f"Expected the variant {name!r} to map parts to what changes, such as {{merger: "
                f"{{thresholds: [0.5, 0.5]}}}}, but got {changes!r}."
            )
        own_source = {} if "source" in changes else {"source": source}
        try:
            if "segmenter" in changes:
                methods[name] = _whole_method(changes)
                continue
            segmenter = segmenter_from_configuration(configuration, {**own_source, **changes})
        except UsageError as error:
            raise UsageError(f"The variant {name!r}: {error}") from error
        if own_source:
            described = {"source": base.configuration["source"]}
            segmenter.configuration = {**segmenter.configuration, **described}
            key = json.dumps(segmenter.configuration["aggregator"], sort_keys=True)
            shared = aggregators.setdefault(key, SharedAggregator(segmenter.aggregator))
            segmenter.aggregator = shared
        methods[name] = segmenter
    return methods


def _whole_method(changes: Mapping[str, Any]) -> nn.Module:
    beside = sorted(set(changes) - {"segmenter"})
    if beside:
        raise UsageError(
            f"a segmenter is a whole method, so {beside[0]} has no meaning beside it; leave one of "
            "them out."
        )
    return whole_method_from_configuration(changes["segmenter"])
