"""Records that outlive their process."""

import json
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsegkit.errors import DiffSegKitError
from diffsegkit.journal import Journal, journal_files, read_journal


def test_what_is_appended_is_read(tmp_path):
    with Journal(tmp_path / "new" / "folder", "journal") as journal:
        assert not (tmp_path / "new").exists()  # nothing before the first record
        journal.append({"id": "a\nb", "n": 1})
        assert read_journal(tmp_path / "new" / "folder", "journal") == [{"id": "a\nb", "n": 1}]
        journal.append({"id": "c"})
    assert [record["id"] for record in read_journal(tmp_path / "new" / "folder", "journal")] == [
        "a\nb",
        "c",
    ]


def test_every_process_has_its_file_and_all_are_read(tmp_path):
    for rank in (0, 2, 1):
        with Journal(tmp_path, "journal", rank) as journal:
            journal.append({"rank": rank})
    (tmp_path / "journal.txt").write_text("not ours")
    files = [path.name for path in journal_files(tmp_path, "journal")]
    assert files == ["journal.jsonl", "journal.1.jsonl", "journal.2.jsonl"]
    assert [record["rank"] for record in read_journal(tmp_path, "journal")] == [0, 1, 2]


@given(cut=st.integers(0, 60))
def test_a_torn_line_does_not_count_and_harms_no_other(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    with Journal(folder, "journal") as journal:
        journal.append({"id": "first"})
        journal.append({"id": "second"})
    path = folder / "journal.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    whole = content[: max(0, len(content) - cut)].count(b"\n")
    assert len(read_journal(folder, "journal")) == whole
    with Journal(folder, "journal") as journal:
        journal.append({"id": "third"})
    ids = [record["id"] for record in read_journal(folder, "journal")]
    assert ids == [*["first", "second"][:whole], "third"]


def test_two_writers_of_one_file(tmp_path):
    with Journal(tmp_path, "journal") as journal:
        journal.append({})
        with (
            Journal(tmp_path, "journal") as other,
            pytest.raises(DiffSegKitError, match="Another process is writing"),
        ):
            other.append({})
    with Journal(tmp_path, "journal") as journal:
        journal.append({})


def test_somebody_elses_file(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"id": 1}\nhello\n')
    with pytest.raises(DiffSegKitError, match=r"Line 2 of .* is not a record"):
        read_journal(tmp_path, "journal")


def test_after_a_kill_each_record_is_whole(tmp_path):
    script = (
        "from diffsegkit.journal import Journal\n"
        f"journal = Journal({str(tmp_path)!r}, 'journal')\n"
        "for number in range(10**9): journal.append({'n': number, 'text': 'x' * 5000})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while (
        not (tmp_path / "journal.jsonl").exists()
        or (tmp_path / "journal.jsonl").stat().st_size < 10**6
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    numbers = [record["n"] for record in read_journal(tmp_path, "journal")]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 100


def test_records_are_plain_lines(tmp_path):
    with Journal(tmp_path, "journal") as journal:
        journal.append({"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "journal.jsonl").read_text()) == {"a": [1, 2.5, None]}


def test_what_is_not_ours_is_not_cut(tmp_path):
    (tmp_path / "journal.jsonl").write_text("notes without an end of line")
    with (
        Journal(tmp_path, "journal") as journal,
        pytest.raises(DiffSegKitError, match="something else than records"),
    ):
        journal.append({})
    assert (tmp_path / "journal.jsonl").read_text() == "notes without an end of line"
