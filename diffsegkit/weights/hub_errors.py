"""What keeps a model from being fetched, in a sentence with the remedy."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffsegkit.errors import DiffSegKitError, DownloadError
from diffsegkit.weights.cache import cache_folder
from diffsegkit.weights.files import ModelFiles

LOCAL_COPY = "or give a local copy with --source.model FOLDER"
"""What always helps."""


@contextmanager
def hub_errors(files: ModelFiles) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP library raise into sentences.

    Args:
        files: The model that is being fetched.

    Raises:
        DownloadError: With what went wrong, and what helps.
    """
    from huggingface_hub import errors

    # The base of httpx or httpx2, whichever this version uses.
    http_error = errors.HfHubHTTPError.__bases__[0]
    sentence = _no_folder(files.model)
    try:
        yield
    except DiffSegKitError:
        raise
    except (OSError, http_error, json.JSONDecodeError, errors.HFValidationError) as error:
        raise DownloadError(sentence + _sentence(files, error)) from error


def _no_folder(model: str) -> str:
    """What to say first where a folder may be meant: its parent is one."""
    parent = Path(model).parent
    meant = "/" in model and parent.is_dir() and str(parent) != "."
    return f"There is no folder {model!r} here, so it was taken for an id on the hub. " * meant


def _sentence(files: ModelFiles, error: BaseException) -> str:
    from huggingface_hub import constants, errors

    model = repr(files.model)
    page = f"{constants.ENDPOINT}/{files.model}"
    # What really happened is behind this one.
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"The model {model} is not complete in {str(cache_folder())!r}, and the hub is not "
            f"asked because HF_HUB_OFFLINE is set: unset it, {LOCAL_COPY}."
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"The model {model} is given only to those who accepted its licence: do so at {page} "
            f"and log in with `hf auth login` (or set HF_TOKEN), {LOCAL_COPY}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"There is no model {model} on the hub, or it is private: check the spelling, or log "
            f"in with `hf auth login` (or set HF_TOKEN), {LOCAL_COPY}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"The model {model} on the hub has no revision {files.revision or 'main'!r}: give one "
            f"of {page}/tree/main with --source.revision, {LOCAL_COPY}."
        )
    if isinstance(error, errors.HFValidationError):
        return f"{model} is no id on the hub: expected one such as 'owner/name', {LOCAL_COPY}."
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(model, error.response.status_code)
    if isinstance(error, (errors.FileMetadataError, json.JSONDecodeError)):
        return no_hub(files.model)
    if isinstance(error, OSError) and error.errno is not None:
        return _of_disk(model, error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"The connection to the hub ({constants.ENDPOINT}) failed while {model} was asked for "
        f"({reason[:200]}): check the network and run the same command again, which goes on where "
        f"it stopped, {LOCAL_COPY}."
    )


def no_hub(model: str) -> str:
    """What to say where something else answers in place of the hub.

    Args:
        model: The model that was asked for.
    """
    return (
        f"What answers at the address of the hub is not a hub, so {model!r} cannot be fetched: "
        f"check HF_ENDPOINT and the proxy, {LOCAL_COPY}."
    )


def disk_full(model: str, needed: str = "") -> str:
    """What to say where the disk is full.

    Args:
        model: The model that is being fetched.
        needed: How much is needed and how much there is, if that is known.
    """
    return (
        f"The disk with the hub's cache, {str(cache_folder())!r}, has no room for "
        f"{model!r}{needed}: free some space and run the same command again, or set HF_HOME to a "
        f"folder on another disk, {LOCAL_COPY}."
    )


def _of_status(model: str, status: int) -> str:
    remedy = {
        401: "renew the token with `hf auth login`, or unset HF_TOKEN",
        403: "log in with `hf auth login` as somebody who may read it",
        404: "check the spelling",
        429: "wait a few minutes, or log in with `hf auth login`",
    }.get(status, "run the same command again later")
    return f"The hub refused {model} with status {status}: {remedy}, {LOCAL_COPY}."


def _of_disk(model: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(model.strip("'"))
    where = f" {error.filename!r}" if error.filename else ""
    return (
        f"The hub's cache, {str(cache_folder())!r}, cannot be written to ({error.strerror}{where}) "
        f"to fetch {model}: check its permissions, or set HF_HOME to another folder, {LOCAL_COPY}."
    )
