"""What the hub has of a model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffsegkit.errors import DownloadError
from diffsegkit.weights.cache import DEFAULT_REVISION, is_commit
from diffsegkit.weights.files import ModelFiles
from diffsegkit.weights.hub_errors import no_hub
from diffsegkit.weights.listing import is_inside


@dataclass(frozen=True)
class HubFile:
    """A file on the hub.

    Args:
        name: Relative to the model.
        size: In bytes.
        digest: The hash of its content, under which the cache keeps it: SHA-256 of a large file,
            the SHA-1 that git gives a small one. Empty if the hub does not tell.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, at one commit.

    Args:
        commit: Its hash.
        files: By name.
    """

    commit: str
    files: Mapping[str, HubFile]


def list_model(files: ModelFiles) -> HubModel:
    """Ask the hub what there is of a model.

    Args:
        files: The model, and its revision.

    Raises:
        DownloadError: If what answers is no hub.
        Exception: What huggingface_hub raises, see :mod:`diffsegkit.weights.hub_errors`.
    """
    from huggingface_hub import HfApi

    revision = files.revision or DEFAULT_REVISION
    try:
        info = HfApi().model_info(files.model, revision=revision, files_metadata=True)
        found = [_described(sibling) for sibling in info.siblings or ()]
        commit = str(info.sha)
    except (KeyError, TypeError, AttributeError) as error:
        raise DownloadError(no_hub(files.model)) from error
    if not is_commit(commit):
        raise DownloadError(no_hub(files.model))
    # What the hub lists is written by whoever uploaded it.
    return HubModel(commit, {file.name: file for file in found if is_inside(file.name)})


def _described(sibling: Any) -> HubFile:  # noqa: ANN401
    name, size, digest = sibling.rfilename, sibling.size, sibling.blob_id or ""
    if sibling.lfs is not None:
        size, digest = sibling.lfs.size, sibling.lfs.sha256
    # The hash becomes the name of a file.
    known = isinstance(size, int) and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest)
    return HubFile(name, size or 0, digest if known else "")
