"""The folder of one run: what was begun there, and what of it is done."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.files import write_atomically
from diffsegkit.journal import Journal, check_idle, journal_files, read_journal

_JOURNAL = "journal"


class RunFolder:
    """Journal and description of a run, so that it can be interrupted and go on.

    ``run.json`` says what is evaluated; each image adds one line to ``journal.jsonl`` (or
    ``journal.<rank>.jsonl``) when it is done; ``results.json`` comes last and says that all is.

    Args:
        directory: The folder; it is made when the run begins.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def is_finished(self) -> bool:
        """Whether there are results of all images."""
        return (self.directory / "results.json").exists()

    def check(self, description: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Be sure that beginning here loses nothing and mixes nothing.

        Args:
            description: What is to be evaluated, plain data.
            resume: Whether to go on with what is there.
            overwrite: Whether what is there may go.

        Raises:
            DiffSegKitError: If a run is at work here, or a process that one has left behind.
            UsageError: If an interrupted run is here, or results of something else, and neither
                was asked for; or if what is to go on evaluated something else.
        """
        check_idle(self.directory, _JOURNAL)
        done = len(self.records())
        if overwrite or not done:
            return
        now = json.loads(json.dumps(description))
        changed = sorted(_difference(self._description().get("evaluates", {}), now))
        if resume:
            # An image whose files have changed is measured anew; the others stand.
            changed = [path for path in changed if path != "data.files_sha256"]
        if not resume and self.is_finished:
            if changed:
                raise UsageError(
                    f"{str(self.directory)!r} holds the results of other settings "
                    f"({', '.join(changed)}); choose another --name, or give --overwrite."
                )
            return
        if not resume:
            raise UsageError(
                f"{str(self.directory)!r} holds an interrupted run with {done} images done; go on "
                "with --resume, start anew with --overwrite, or choose another --name."
            )
        if changed:
            raise UsageError(
                f"The run in {str(self.directory)!r} cannot go on, because it was begun with other "
                f"settings: {', '.join(changed)} differ; start anew with --overwrite, or choose "
                "another --name."
            )

    def begin(self, description: Mapping[str, Any], *, resume: bool) -> Journal:
        """Start, or go on; on the first process only, before any other looks.

        Args:
            description: What is evaluated.
            resume: Whether to keep what is there.

        Returns:
            The journal of the first process; while it is open, no other run begins here.

        Raises:
            DiffSegKitError: If another run is at work here.
        """
        check_idle(self.directory, _JOURNAL)
        journal = self.journal(0)
        journal.open()
        if resume and self.records():
            # The same run, of files that may have changed since.
            self._describe(self.identity(), description)
            return journal
        # First of all the results: whatever happens next, they must not look current.
        (self.directory / "results.json").unlink(missing_ok=True)
        for path in journal_files(self.directory, _JOURNAL):
            if path != journal.path:
                path.unlink()
        journal.clear()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._describe({"run": uuid4().hex[:12], "started": started}, description)
        return journal

    def identity(self) -> dict[str, str]:
        """The run's own name and when it began; nothing if there is none."""
        described = self._description()
        return {key: described[key] for key in ("run", "started") if key in described}

    def journal(self, rank: int) -> Journal:
        """Where a process writes what is done.

        Args:
            rank: Of the process.
        """
        return Journal(self.directory, _JOURNAL, rank)

    def records(self) -> list[dict[str, Any]]:
        """What is done so far, by all processes."""
        return read_journal(self.directory, _JOURNAL)

    def done(self, files: Mapping[str, str]) -> list[str]:
        """The images that need not be measured again.

        Args:
            files: A digest of the files of each image, as they are now, by id.
        """
        return [record["id"] for record in self.records() if _is_of(record, files)]

    def complete_records(self, files: Mapping[str, str]) -> list[dict[str, Any]]:
        """The records of all images, each exactly once.

        Args:
            files: A digest of the files of each image by id, in the order of the data.

        Returns:
            The records in that order, whoever wrote them and whenever. Those of files that have
            changed since do not count.

        Raises:
            DiffSegKitError: If an image is missing, or none of these, or there twice with other
                measurements.
        """
        by_id: dict[str, dict[str, Any]] = {}
        differing = 0
        records = self.records()
        foreign = sorted({record["id"] for record in records} - files.keys())
        for record in records:
            if not _is_of(record, files):
                continue
            # A process that outlived its run may have measured what the next run measured too.
            first = by_id.setdefault(record["id"], record)
            differing += _measured(first) != _measured(record)
        missing = [image for image in files if image not in by_id]
        if missing or foreign or differing:
            raise DiffSegKitError(
                f"Expected each of {len(files)} images once in the journal of "
                f"{str(self.directory)!r}, but {len(missing)} are missing {missing[:3]}, "
                f"{differing} are there twice and differ, and {len(foreign)} are unknown "
                f"{foreign[:3]}; to evaluate fewer images use --data.limit or --data.ids, not "
                "--trainer.limit_test_batches; otherwise start anew with --overwrite."
            )
        return [by_id[image] for image in files]

    def _describe(self, identity: Mapping[str, str], description: Mapping[str, Any]) -> None:
        text = json.dumps({**identity, "evaluates": description}, indent=2).encode()
        write_atomically(self.directory / "run.json", lambda file: file.write(text))

    def _description(self) -> dict[str, Any]:
        try:
            found = json.loads((self.directory / "run.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _is_of(record: Mapping[str, Any], files: Mapping[str, str]) -> bool:
    """Whether a record is of an image as its files are now."""
    return record["id"] in files and record.get("files") == files[record["id"]]


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured of an image: all but how long it took."""
    return {
        name: (own["num_segments"], own["statistics"]) for name, own in record["methods"].items()
    }


def _difference(before: Any, now: Any, path: str = "") -> set[str]:  # noqa: ANN401
    """The paths at which two trees of plain data differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() | now.keys()
        absent = object()
        nested = (
            _difference(before.get(key, absent), now.get(key, absent), f"{path}.{key}".lstrip("."))
            for key in keys
        )
        return set().union(*nested)
    return set() if before == now else {path}
