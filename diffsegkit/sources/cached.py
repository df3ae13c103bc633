"""Attention kept on disk."""

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

import torch
from torch import Tensor

from diffsegkit import registry
from diffsegkit.cache_folder import CacheFolder
from diffsegkit.errors import UsageError
from diffsegkit.interfaces import AttentionSource, SourceOutput
from diffsegkit.sources.stored_output import (
    FORMAT,
    StoredOutput,
    from_bytes,
    join_images,
    take_image,
    to_bytes,
)
from diffsegkit.weights import ModelFiles

_GIB = 2**30
# What attention may depend on beside the source's own distribution.
_PACKAGES = ("diffsegkit", "torch", "diffusers", "transformers", "kornia")
# After these no other file can be written either.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class CachedSource(AttentionSource):
    """Keeps a source's attention on disk, and takes it from there the next time.

    Each image has a file of its own, found by the SHA-256 of its pixels, its prompt, the source's
    fingerprint, and the versions of the packages that the source comes from: whatever changes is
    computed anew. Of a batch, only the images without a file go through the source. The device is
    no part of it, so what a GPU computed serves a CPU too.

    Attention is stored in float16, times 2**15, and comes back in float32 with rows that sum to 1:
    an entry is off by at most a thousandth of itself (down to 2e-9). At the presets' settings label
    maps agree with uncached ones on 99.9 % of the pixels or more (99.99 % on most photos); with
    hundreds of segments of nearly equal maps it can be less. What is computed is rounded in the
    same way, so results do not depend on what was there. Features, cross-attention, proposals and
    the source's own images come back as they were. An image of Stable Diffusion takes 34 MiB if
    layers of one grid are averaged.

    When the files outgrow ``max_gib``, those not used for longest go. Several processes may share
    the folder. A damaged file costs a warning and is computed again; if nothing can be written any
    more, a warning says so and the run goes on without.

    Args:
        source: Whose attention it is; it must have a ``fingerprint()``.
        dir: The folder, which is made if need be.
        max_gib: What the files may take together, in GiB.

    Raises:
        UsageError: If the folder cannot be written to, or the source has no fingerprint.
        ValueError: If ``max_gib`` is not above 0; when called, if the attention holds NaN or
            infinity, or there is not one prompt per image.

    Example:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> from diffsegkit.sources import AffinitySource
        >>> with TemporaryDirectory() as folder:
        ...     source = CachedSource(AffinitySource(cells=(8,)), folder)
        ...     images = torch.rand(2, 3, 64, 64)
        ...     computed, read = source(images), source(images)
        >>> torch.equal(computed.attention[0].probs, read.attention[0].probs)
        True
    """

    def __init__(self, source: AttentionSource, dir: str, max_gib: float = 50.0) -> None:
        super().__init__()
        if not isinstance(source, AttentionSource):
            raise TypeError(
                f"Expected argument `source` to be an AttentionSource, but got {source!r}."
            )
        if not max_gib > 0:
            raise ValueError(f"Expected argument `max_gib` above 0, but got {max_gib}.")
        _fingerprint(source)
        self.source = source
        self.size_multiple = source.size_multiple
        self.dir = os.fspath(dir)
        self.max_gib = max_gib
        self._folder = CacheFolder(self.dir, max_gib * _GIB, suffix=".safetensors")
        self._versions = _versions(source)
        self._full = False
        self._said: set[str] = set()

    @torch.no_grad()
    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """The source's attention, from disk or computed and put there.

        Args:
            images: ``(B, 3, H, W)``, as the source takes them.
            prompts: One text per image, for sources that read text.

        Returns:
            What the source gives, its attention rounded to float16; attention is float32, and
            has no gradient.
        """
        if prompts is not None and (isinstance(prompts, str) or len(prompts) != len(images)):
            raise ValueError(
                f"Expected one prompt for each of {len(images)} images, but got {prompts!r}."
            )
        fingerprint = _fingerprint(self.source)
        keys = self._keys(images, prompts, fingerprint)
        stored = {index: own for index, key in enumerate(keys) if (own := self._read(key))}
        missing = [index for index in range(len(images)) if index not in stored]
        if missing:
            some = images if len(missing) == len(images) else images[missing]
            texts = None if prompts is None else [prompts[index] for index in missing]
            output = self.source(some, prompts=texts)
            self._check(output, len(missing))
            for position, index in enumerate(missing):
                own = take_image(output, position, some[position])
                self._write(keys[index], own, fingerprint)
                stored[index] = own
        return join_images([stored[index] for index in range(len(images))], images)

    def fingerprint(self) -> str:
        """The source's, and that its attention is rounded."""
        return f"CachedSource-{FORMAT}({_fingerprint(self.source)}, float16)"

    def default_dtype(self, device: torch.device) -> torch.dtype | None:
        """The source's.

        Args:
            device: Where it is going to be.
        """
        return self.source.default_dtype(device)

    @classmethod
    def weights(cls, **options: Any) -> ModelFiles | None:  # noqa: ANN401
        """The files that the source within needs, if it is given as class path and arguments.

        Args:
            options: The arguments of the constructor.
        """
        source = options.get("source")
        if not isinstance(source, Mapping) or "class_path" not in source:
            return None
        within: type[AttentionSource] = registry.load("sources", source["class_path"])
        return within.weights(**source.get("init_args", {}))

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"dir={self.dir!r}, max_gib={self.max_gib}"

    def _keys(self, images: Tensor, prompts: Sequence[str] | None, fingerprint: str) -> list[str]:
        """What the attention of each image depends on, 64 hexadecimal digits."""
        keys = []
        for index, image in enumerate(images):
            pixels = image.detach().cpu().reshape(-1).view(torch.uint8).numpy()
            record = {
                "format": FORMAT,
                "source": fingerprint,
                "versions": self._versions,
                "pixels": hashlib.sha256(pixels).hexdigest(),
                "shape": list(image.shape),
                "dtype": str(image.dtype),
                "prompt": None if prompts is None else prompts[index],
            }
            text = json.dumps(record, sort_keys=True)
            keys.append(hashlib.sha256(text.encode()).hexdigest())
        return keys

    def _read(self, key: str) -> StoredOutput | None:
        try:
            data = self._folder.read(key)
            return None if data is None else from_bytes(data, key)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            warnings.warn(
                f"The stored attention {str(self._folder.path(key))!r} cannot be used: {reason}; "
                "it is computed again.",
                stacklevel=3,
            )
            return None

    def _write(self, key: str, stored: StoredOutput, fingerprint: str) -> None:
        if self._full:
            return
        data = to_bytes(stored, key, {"source": fingerprint, "versions": self._versions})
        if len(data) > self._folder.max_bytes:
            self._say_once(
                "size",
                f"The attention of an image takes {len(data) / _GIB:.2g} GiB, and all may take "
                f"{self.max_gib:g} GiB, so it is not stored; a larger max_gib would help.",
            )
            return
        try:
            self._folder.write(key, data)
        except OSError as error:
            self._full = error.errno in _NO_SPACE
            self._say_once(
                "write",
                f"Attention cannot be stored in {self.dir!r}: {error.strerror}; the run goes on "
                "without.",
            )

    def _say_once(self, about: str, message: str) -> None:
        if about not in self._said:
            self._said.add(about)
            warnings.warn(message, stacklevel=4)

    def _check(self, output: object, number: int) -> None:
        name = type(self.source).__name__
        if type(output) is not SourceOutput:
            raise TypeError(
                f"{name} gave a {type(output).__name__}, and only a SourceOutput can be stored."
            )
        if output.batch_size != number:
            raise ValueError(
                f"{name} gave attention for {output.batch_size} images, but got {number}."
            )


def _fingerprint(source: AttentionSource) -> str:
    fingerprint = source.fingerprint()
    if not fingerprint:
        raise UsageError(
            f"{type(source).__name__} has no fingerprint that would tell its settings apart, so "
            "its attention cannot be cached; give it a method fingerprint(), or use it uncached."
        )
    return fingerprint


def _versions(source: AttentionSource) -> dict[str, str]:
    """Of the packages that attention may depend on: the common ones, and the source's own."""
    modules = {type(module).__module__.partition(".")[0] for module in source.modules()}
    packages = set(_PACKAGES)
    if unknown := modules - packages:
        distributions = packages_distributions()
        packages.update(*(distributions.get(module, []) for module in unknown))
    found = {}
    for package in sorted(packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
