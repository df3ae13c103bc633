"""Fetch the content of a file, and go on where an earlier attempt stopped.

huggingface_hub itself drops what it has of a file when it is interrupted, which for a UNet is
gigabytes; so the bytes are fetched here and put where its cache keeps them.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from diffsegkit.errors import DownloadError
from diffsegkit.weights.cache import CachedModel
from diffsegkit.weights.hub import HubFile
from diffsegkit.weights.size import size_of

_ATTEMPTS = 5  # without a byte gained
_PAUSE = 1.0  # seconds between them


def fetch(
    file: HubFile, commit: str, place: CachedModel, report: Callable[[int], None] = lambda _: None
) -> None:
    """Bring a content into the cache, unless it is there; only when it is whole it has its name.

    Args:
        file: A file on the hub whose hash is known.
        commit: The model's.
        place: Where the cache keeps the model.
        report: Called with each number of bytes received; those of before a restart are taken
            back as a negative number.

    Raises:
        DownloadError: If what comes is not what the hub promised.
        Exception: What huggingface_hub and its HTTP library raise, see
            :mod:`diffsegkit.weights.hub_errors`.
    """
    blob, partial = place.blob(file.digest), place.partial(file.digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with place.locked(file.digest):
        if blob.is_file() and size_of(blob) == file.size:
            return
        _receive(file, commit, place, report)
        if (found := _digest(partial, file.digest)) != file.digest:
            partial.unlink()
            raise DownloadError(
                f"What came for {file.name!r} of {place.model!r} was refused: the hash "
                f"{file.digest[:12]}... was expected, but it has {found[:12]}...; run the same "
                "command again, and if it happens again, ask whether a proxy alters what it passes "
                "on, or give a local copy with --source.model FOLDER."
            )
        partial.replace(blob)


def _receive(file: HubFile, commit: str, place: CachedModel, report: Callable[[int], None]) -> None:
    """All bytes of a file, over several connections if need be."""
    from huggingface_hub.errors import HfHubHTTPError

    # The base of httpx or httpx2, whichever this version uses.
    http_error = HfHubHTTPError.__bases__[0]
    partial = place.partial(file.digest)
    attempts = _ATTEMPTS
    while True:
        before = size_of(partial)
        try:
            _stream(file, commit, place, report)
        except HfHubHTTPError:
            raise
        except (http_error, _CutOffError):
            attempts = _ATTEMPTS if size_of(partial) > before else attempts - 1
            if not attempts:
                raise
            time.sleep(_PAUSE)
        else:
            return


class _CutOffError(ConnectionError):
    """The connection ended in order, but too early."""


def _stream(file: HubFile, commit: str, place: CachedModel, report: Callable[[int], None]) -> None:
    """One connection: the bytes that are still wanted."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    partial = place.partial(file.digest)
    start = size_of(partial)
    if start == file.size:
        partial.touch()
        return
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if 0 < start < file.size:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream(
        "GET",
        hf_hub_url(place.model, file.name, revision=commit),
        headers=headers,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        follow_redirects=True,
    ) as response:
        hf_raise_for_status(response)
        # Whoever does not know ranges sends everything, with 200.
        resumed = response.status_code == 206
        received = start if resumed else 0
        report(received - start)
        with partial.open("ab" if resumed else "wb") as out:
            for chunk in response.iter_bytes():
                received += len(chunk)
                if received > file.size:
                    break
                out.write(chunk)
                report(len(chunk))
            out.flush()
            os.fsync(out.fileno())
    if received > file.size:
        partial.unlink()
        raise DownloadError(
            f"What came for {file.name!r} of {place.model!r} was refused: it is longer than the "
            f"{file.size} bytes that the hub lists; check HF_ENDPOINT and the proxy, or give a "
            "local copy with --source.model FOLDER."
        )
    if received < file.size:
        raise _CutOffError(f"{received} of {file.size} bytes came")


def _digest(path: Path, like: str) -> str:
    """The hash of a content, of the kind that another one is."""
    with path.open("rb") as content:
        if len(like) == 64:
            return hashlib.file_digest(content, "sha256").hexdigest()
        # As git hashes it.
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        blob.update(content.read())
        return blob.hexdigest()
