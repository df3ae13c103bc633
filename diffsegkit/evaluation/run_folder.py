"""The folder of one run: what was begun there, and what of it is done."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from diffsegkit.errors import DiffSegKitError, UsageError
from diffsegkit.files import write_atomically
from diffsegkit.journal import Journal, journal_files, read_journal

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
            UsageError: If an interrupted run is here and neither was asked for, or if it evaluated
                something else.
        """
        if overwrite or not journal_files(self.directory, _JOURNAL):
            return
        if not resume:
            if self.is_finished:
                return
            done = len(self.records())
            raise UsageError(
                f"{str(self.directory)!r} holds an interrupted run with {done} images done; go on "
                "with --resume, start anew with --overwrite, or choose another --name."
            )
        before = self._description()
        now = json.loads(json.dumps(description))
        changed = sorted(_difference(before.get("evaluates", {}), now))
        if changed:
            raise UsageError(
                f"The run in {str(self.directory)!r} cannot go on, because it was begun with other "
                f"settings: {', '.join(changed)} differ; start anew with --overwrite, or choose "
                "another --name."
            )

    def begin(self, description: Mapping[str, Any], *, resume: bool) -> None:
        """Start, or go on; on one process only.

        Args:
            description: What is evaluated.
            resume: Whether to keep what is there.
        """
        if not resume:
            # First of all the results: whatever happens next, they must not look current.
            (self.directory / "results.json").unlink(missing_ok=True)
            for path in journal_files(self.directory, _JOURNAL):
                path.unlink()
        if resume and journal_files(self.directory, _JOURNAL):
            return
        started = datetime.now(UTC).isoformat(timespec="seconds")
        run = {"run": uuid4().hex[:12], "started": started, "evaluates": description}
        text = json.dumps(run, indent=2).encode()
        write_atomically(self.directory / "run.json", lambda file: file.write(text))

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

    def complete_records(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The records of all images, each exactly once.

        Args:
            ids: Of the images.

        Returns:
            The records in the order of ``ids``, whoever wrote them and whenever.

        Raises:
            DiffSegKitError: If an image is missing, or there twice, or none of these.
        """
        records = self.records()
        by_id = {record["id"]: record for record in records}
        missing = [image for image in ids if image not in by_id]
        foreign = sorted(by_id.keys() - set(ids))
        if missing or foreign or len(records) > len(by_id):
            raise DiffSegKitError(
                f"Expected each of {len(ids)} images once in the journal of "
                f"{str(self.directory)!r}, but {len(missing)} are missing {missing[:3]}, "
                f"{len(records) - len(by_id)} are there twice, and {len(foreign)} are unknown "
                f"{foreign[:3]}; to evaluate fewer images use --data.limit or --data.ids, not "
                "--trainer.limit_test_batches; otherwise start anew with --overwrite."
            )
        return [by_id[image] for image in ids]

    def _description(self) -> dict[str, Any]:
        try:
            found = json.loads((self.directory / "run.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


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
