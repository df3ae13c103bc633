"""The hub's cache on this machine, which diffusers and transformers use too.

Its layout is documented at https://huggingface.co/docs/huggingface_hub/guides/manage-cache: a
folder for each model, ``blobs`` with the contents by their hashes, ``snapshots/COMMIT`` with links
to them, and ``refs`` with the commit of each branch.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffsegkit.errors import ComponentError
from diffsegkit.files import write_atomically

DEFAULT_REVISION = "main"


@dataclass(frozen=True)
class CachedModel:
    """Where the cache keeps a model, whether it is there or not.

    Args:
        root: The cache.
        model: The model's id on the hub.
        revision: Branch, tag or commit.
    """

    root: Path
    model: str
    revision: str

    @property
    def folder(self) -> Path:
        """Of the model, with all its revisions."""
        return self.root / f"models--{self.model.replace('/', '--')}"

    @property
    def snapshot(self) -> Path | None:
        """The files of the revision, as far as they are there."""
        if is_commit(self.revision):
            commit = self.revision
        else:
            try:
                commit = (self.folder / "refs" / self.revision).read_text().strip()
            except (OSError, ValueError):
                return None
        snapshot = self.snapshot_of(commit)
        return snapshot if is_commit(commit) and snapshot.is_dir() else None

    def snapshot_of(self, commit: str) -> Path:
        """The folder with the files of a commit.

        Args:
            commit: Its hash.
        """
        return self.folder / "snapshots" / commit

    def blob(self, digest: str) -> Path:
        """Where a content is kept.

        Args:
            digest: Its hash, as the hub gives it.
        """
        return self.folder / "blobs" / digest

    def partial(self, digest: str) -> Path:
        """Where a content is kept until all of it is there.

        Args:
            digest: Its hash.
        """
        # `hf cache` knows what ends so as the rest of an interrupted download.
        return self.folder / "blobs" / f"{digest}.diffsegkit.incomplete"

    @contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Keep a content to oneself; another process that wants it waits.

        Args:
            digest: Its hash.

        Raises:
            OSError: If the cache cannot be written to.
        """
        from huggingface_hub.utils import WeakFileLock

        # The file that huggingface_hub itself uses.
        lock = self.root / ".locks" / self.folder.name / f"{digest}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            yield

    def remember(self, commit: str) -> None:
        """Note which commit the revision is.

        Args:
            commit: Its hash.

        Raises:
            OSError: If it cannot be written.
        """
        if self.revision != commit:
            reference = self.folder / "refs" / self.revision
            write_atomically(reference, lambda file: file.write(commit.encode()))

    def remove(self, file: Path, digest: str) -> None:
        """Take a damaged file out of a snapshot, its content too.

        Args:
            file: In a snapshot.
            digest: The hash that its content ought to have; empty if it is not known.

        Raises:
            OSError: If it cannot be removed.
        """
        content = self.blob(digest) if digest else file.resolve()
        file.unlink(missing_ok=True)
        if content.is_relative_to(self.folder):
            content.unlink(missing_ok=True)


def cached(model: str, revision: str | None) -> CachedModel:
    """Where the cache keeps a model.

    Args:
        model: Its id on the hub.
        revision: Branch, tag or commit.

    Raises:
        ComponentError: If huggingface_hub is not installed.
    """
    return CachedModel(cache_folder(), model, revision or DEFAULT_REVISION)


def cache_folder() -> Path:
    """The hub's cache on this machine; ``HF_HOME`` or ``HF_HUB_CACHE`` moves it.

    Raises:
        ComponentError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "huggingface_hub":
            raise
        raise ComponentError(
            "Models of the hub need huggingface_hub: pip install 'diffsegkit[sd]' for Stable "
            "Diffusion, 'diffsegkit[vit]' for vision transformers, or give a local copy with "
            "--source.model FOLDER."
        ) from error
    return Path(constants.HF_HUB_CACHE)


def is_commit(revision: str) -> bool:
    """Whether a revision is the full hash of a commit, which never changes.

    Args:
        revision: Branch, tag or commit.
    """
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None
