"""The errors that diffsegkit raises for what a user can put right.

Each message is one sentence: what was given, what was expected, and the remedy. The classes also
derive from the built-in error a Python programmer would expect, so ``except ValueError`` works.
"""

__all__ = [
    "BackendError",
    "ComponentError",
    "DatasetError",
    "DiffSegKitError",
    "DownloadError",
    "ImageError",
    "MergingError",
    "UsageError",
    "WeightsError",
]


class DiffSegKitError(Exception):
    """Base of every error that diffsegkit raises on purpose."""


class UsageError(DiffSegKitError, ValueError):
    """The request itself is wrong, so nothing was started; the command line exits with 2."""


class ComponentError(UsageError, LookupError):
    """A component is unknown, ambiguous, cannot be imported, or is not of the kind asked for."""


class BackendError(UsageError, RuntimeError):
    """A kernel was asked to run in a way in which it cannot run here; the message says why."""


class DatasetError(UsageError):
    """A data set is missing, half-copied, or not laid out as its publisher lays it out."""


class WeightsError(UsageError):
    """A model's files are missing, damaged, or of another kind than the source can use."""


class DownloadError(DiffSegKitError, OSError):
    """A model has to be fetched, and cannot be: no network, no permission, no such model."""


class ImageError(DiffSegKitError, ValueError):
    """An image cannot be read, or is not an image that can be segmented."""


class MergingError(DiffSegKitError, RuntimeError):
    """Merging found no proposal at all, which only float16 parity mode can cause."""
