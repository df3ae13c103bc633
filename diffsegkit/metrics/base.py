"""What the metrics have in common: one image at a time, and sums over images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

# The state that tells metrics with different settings apart.
_SETTINGS = "settings"


class ImageMetric(Metric, ABC):
    """A metric of label maps that is measured image by image and summed over them.

    What one image contributes, its *statistics*, is plain data: a test loop can write it to a
    journal with :meth:`measure`, and build the metric of the whole set from the journal with
    :meth:`add`, without the images. Metrics whose :attr:`statistic` is equal measure the same, so
    it need be stored only once. Otherwise this is a torchmetrics metric, with ``update``,
    ``compute``, ``reset``, ``MetricCollection`` and several processes.

    A new metric defines :attr:`statistic`, :meth:`measure`, :meth:`sums` and :meth:`reduce`, and
    its ``__init__`` ends with :meth:`add_sums`.

    The states are int64 and float64 sums, and keep their precision: ``half()``, ``to(dtype)`` and
    ``set_dtype`` leave them alone. They follow the metric to another device.

    Args:
        kwargs: Of ``torchmetrics.Metric``, such as ``sync_on_compute``.

    Example:
        >>> import torch
        >>> from diffsegkit.metrics import SegmentCount
        >>> metric = SegmentCount()
        >>> journal = [metric.measure(torch.tensor(labels)) for labels in ([0, 1, 2], [3, 3, 3])]
        >>> journal
        [{'segments': 3}, {'segments': 1}]
        >>> for statistics in journal:
        ...     metric.add(statistics)
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self._sums: tuple[str, ...] = ()

    @property
    @abstractmethod
    def statistic(self) -> str:
        """Names what :meth:`measure` gives; equal for metrics that measure the same."""

    @abstractmethod
    def measure(self, preds: Tensor, target: Any) -> dict[str, Any]:  # noqa: ANN401
        """Describe one image, without changing the metric.

        Args:
            preds: ``(H, W)`` integer segment ids.
            target: The image's ground truth.

        Returns:
            Integers, floats, strings, and lists and dictionaries of them, as JSON has them.
        """

    @abstractmethod
    def sums(self, statistics: Mapping[str, Any]) -> dict[str, Tensor]:
        """Turn the statistics of one image into what it adds to each state.

        Args:
            statistics: What :meth:`measure` gave, or what JSON made of it.

        Returns:
            One tensor per name given to :meth:`add_sums`, on the CPU.
        """

    @abstractmethod
    def reduce(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Turn sums over images into the metric.

        Args:
            sums: One tensor per name given to :meth:`add_sums`.

        Returns:
            Float64 scalar; NaN where the images say nothing.
        """

    def add_sums(self, identity: str, **zeros: Tensor) -> None:
        """Declare the states, which are sums over images.

        Args:
            identity: Everything that decides what is added to the states. A ``MetricCollection``
                lets metrics share states that look alike after the first batch; those with
                different identities never do.
            zeros: Name and initial value of each state.
        """
        self._sums = tuple(zeros)
        for name, zero in zeros.items():
            self.add_state(name, zero, dist_reduce_fx="sum")
        # A state like the others, because states are what a MetricCollection compares. Every
        # process has the same, so the maximum over processes changes nothing.
        code = torch.tensor(list(identity.encode()), dtype=torch.int64)
        self.add_state(_SETTINGS, code, dist_reduce_fx="max")

    def add(self, statistics: Mapping[str, Any]) -> None:
        """Take in one image that :meth:`measure` described.

        Args:
            statistics: What it gave, or what JSON made of it.
        """
        self._accumulate([self.sums(statistics)])
        self._computed = None
        self._update_count += 1

    def score(self, statistics: Mapping[str, Any]) -> float:
        """The metric of a set that has one image alone.

        Args:
            statistics: What :meth:`measure` gave for the image.

        Returns:
            What ``compute`` would give; NaN where the image says nothing.
        """
        return float(self.reduce(self.sums(statistics)))

    def update(self, preds: Tensor | Sequence[Tensor], target: Any) -> None:  # noqa: ANN401
        """Take in a batch of images.

        Args:
            preds: ``(B, H, W)`` integer segment ids, a list of B maps ``(H, W)`` of any sizes, or
                ``(H, W)`` for one image.
            target: The ground truth of each image, B of them; for one image, its own.

        Raises:
            TypeError: If a map is not a tensor of integers.
            ValueError: If there is not one ground truth per image, or one does not fit. Nothing
                has been taken in then.
        """
        # All images are measured before the first counts, so that an error leaves no half batch.
        self._accumulate([self.sums(self.measure(*image)) for image in split_images(preds, target)])

    def compute(self) -> Tensor:
        """The metric of all images so far, float64; NaN if there are none."""
        return self.reduce(self._current_sums())

    def plot(self, val: Any = None, ax: Any = None) -> Any:  # noqa: ANN401
        """Draw the metric, with matplotlib.

        Args:
            val: A result of ``compute`` or ``forward``, or a list of them for a curve; without
                it, ``compute`` is called.
            ax: The axes to draw on; without them, new ones.

        Returns:
            The figure and the axes.
        """
        return self._plot(val, ax)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another metric with the same settings has taken in.

        Args:
            incoming_state: The other metric, or its states by name.

        Raises:
            ValueError: If its settings are different, or it is another metric.
        """
        states = (
            incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        )
        code = states.get(_SETTINGS)
        mine: Tensor = getattr(self, _SETTINGS)
        if isinstance(code, Tensor) and not torch.equal(code.to(mine.device), mine):
            raise ValueError(
                f"Expected argument `incoming_state` to come from {_decode(mine)}, but got "
                f"{_decode(code)}."
            )
        super().merge_state(incoming_state)
        self._computed = None

    def _accumulate(self, images: Sequence[Mapping[str, Tensor]]) -> None:
        for sums in images:
            for name in self._sums:
                state: Tensor = getattr(self, name)
                setattr(self, name, state + sums[name].to(state.device))

    def _current_sums(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self._sums}

    def _synced_sums(self) -> dict[str, Tensor]:
        """The sums over all processes, for results beside ``compute``."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync and not self._is_synced,
            should_unsync=self._should_unsync and not self._is_synced,
        ):
            return self._current_sums()

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        # Counts and sums follow to a device, but lose their meaning in a shorter type.
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor.new_empty(0)).device)

        return super()._apply(move, exclude_state)


def split_images(preds: object, target: object) -> Iterator[tuple[Tensor, Any]]:
    """Give each image of a batch its ground truth.

    Args:
        preds: ``(B, H, W)``, a sequence of B maps, or one map ``(H, W)`` or ``(N,)``.
        target: B ground truths; for one map, its own. None if the metric needs none.

    Yields:
        Each map with its ground truth.

    Raises:
        TypeError: If ``preds`` is neither a tensor nor a sequence, or ``target`` not a sequence
            for several images.
        ValueError: If ``preds`` has other axes, or there is not one ground truth per image.
    """
    if isinstance(preds, Tensor) and preds.ndim in (1, 2):
        yield preds, target
        return
    if isinstance(preds, Tensor) and preds.ndim != 3:
        raise ValueError(
            "Expected argument `preds` to have shape (B, H, W) or (H, W), but got "
            f"{tuple(preds.shape)}."
        )
    for images, name in ((preds, "preds"), (target, "target")):
        if not isinstance(images, Tensor | Sequence) and not (name == "target" and images is None):
            raise TypeError(
                f"Expected argument `{name}` to be a tensor or a sequence of tensors, but got "
                f"{type(images).__name__}."
            )
    maps: Sequence[Tensor] = list(preds)  # type: ignore[call-overload]
    truths: Sequence[Any] = [None] * len(maps) if target is None else list(target)  # type: ignore[call-overload]
    if len(maps) != len(truths):
        raise ValueError(
            f"Expected argument `target` to hold one ground truth for each of {len(maps)} images, "
            f"but got {len(truths)}."
        )
    yield from zip(maps, truths, strict=True)


def _decode(code: Tensor) -> str:
    return bytes(code.tolist()).decode()
