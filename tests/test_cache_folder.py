"""A folder of files by key: what is kept, what goes, and who else may be there."""

import os
import subprocess
import sys
import time

import pytest

from diffsegkit.cache_folder import CacheFolder
from diffsegkit.errors import UsageError

KEYS = [f"{number:x}{number:x}" * 32 for number in range(16)]
SIZE = 1000


def folder_of(path, files):
    return CacheFolder(path, files * SIZE, ".bin")


def fill(folder, *numbers, age=0.0):
    """Write files, each a second younger than the one before, the last ``age`` seconds old."""
    now = time.time() - age
    for back, number in zip(reversed(range(len(numbers))), numbers, strict=True):
        folder.write(KEYS[number], bytes([number]) * SIZE)
        if folder.path(KEYS[number]).exists():
            os.utime(folder.path(KEYS[number]), (now - back, now - back))


def there(folder):
    return [number for number, key in enumerate(KEYS) if folder.path(key).exists()]


def test_what_is_written_is_read(tmp_path):
    folder = folder_of(tmp_path / "new" / "one", 10)
    assert folder.read(KEYS[3]) is None
    fill(folder, 3)
    assert folder.read(KEYS[3]) == b"\x03" * SIZE
    assert folder.path(KEYS[3]) == tmp_path / "new" / "one" / "33" / f"{KEYS[3]}.bin"
    assert folder_of(tmp_path / "new" / "one", 10).read(KEYS[3]) == b"\x03" * SIZE


def test_the_oldest_go_first(tmp_path):
    folder = folder_of(tmp_path, 4.5)
    fill(folder, 0, 1, 2, 3, age=10)
    fill(folder, 4)
    assert there(folder) == [1, 2, 3, 4]


def test_reading_is_using(tmp_path):
    folder = folder_of(tmp_path, 4.5)
    fill(folder, 0, 1, 2, 3, age=10)
    assert folder.read(KEYS[0])
    assert folder.read(KEYS[2])
    fill(folder, 4)
    assert there(folder) == [0, 2, 3, 4]
    fill(folder, 5)
    assert there(folder) == [0, 2, 4, 5]


def test_what_is_there_from_before_counts(tmp_path):
    fill(folder_of(tmp_path, 100), *range(8), age=10)
    smaller = folder_of(tmp_path, 3.5)
    fill(smaller, 9)
    assert there(smaller) == [6, 7, 9]


def test_what_has_just_been_written_stays(tmp_path):
    folder = folder_of(tmp_path, 1)
    for number in range(3):
        fill(folder, number)
        assert there(folder) == [number]


def test_what_others_write_counts_before_long(tmp_path):
    folders = [folder_of(tmp_path, 10) for _ in range(4)]
    for round_ in range(4):
        for index, folder in enumerate(folders):
            fill(folder, 4 * round_ + index)
    assert len(there(folders[0])) <= 10


def test_not_every_write_looks_at_all_files(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, 100.5)
    looks = []
    original = CacheFolder._files
    monkeypatch.setattr(CacheFolder, "_files", lambda self: looks.append(1) or original(self))
    for number in range(300):
        folder.write(f"{number:064x}", bytes(SIZE))
    assert len(looks) <= 1 + 300 // 10
    assert len(list(tmp_path.glob("*/*.bin"))) <= 100


def test_files_may_vanish_at_any_time(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, 3.5)
    fill(folder, 0, 1, 2, age=10)
    original = CacheFolder._files

    def raced(self):
        files = sorted(original(self))
        files[0].path.unlink()  # between the look and the removal
        yield from files

    monkeypatch.setattr(CacheFolder, "_files", raced)
    fill(folder, 3)
    assert there(folder) == [1, 2, 3]
    for path in (tmp_path / "33").iterdir():
        path.unlink()
    (tmp_path / "33").rmdir()
    assert folder.read(KEYS[3]) is None
    monkeypatch.undo()
    fill(folder, 3)
    assert folder.read(KEYS[3])


def test_leftovers_count_and_go_when_old(tmp_path):
    folder = folder_of(tmp_path, 4.5)
    fill(folder, 0, 1, age=10)
    old, young = (tmp_path / "00" / f".diffsegkit-{name}" for name in ("old", "young"))
    for leftover in (old, young):
        leftover.write_bytes(bytes(2 * SIZE))
    day = time.time() - 86400
    os.utime(old, (day, day))
    again = folder_of(tmp_path, 4.5)
    os.utime(young, (time.time() - 60, time.time() - 60))  # older than any other
    fill(again, 2)
    assert not old.exists()
    assert young.exists()
    assert there(again) == [1, 2]


def test_files_of_somebody_else_are_left_alone(tmp_path):
    others = [
        tmp_path / "photo.bin",
        tmp_path / "00" / "photo.bin",
        tmp_path / "00" / f"{KEYS[0]}.png",
        tmp_path / "holiday" / f"{KEYS[0]}.bin",
    ]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(5 * SIZE))
        os.utime(path, (0, 0))
    folder = folder_of(tmp_path, 2.5)
    fill(folder, 0, 1, 2, 3)
    assert there(folder) == [2, 3]
    assert all(path.stat().st_size == 5 * SIZE for path in others)


def test_a_folder_that_takes_no_files(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="`dir` to be a folder, but '.*file' is a file"):
        folder_of(tmp_path / "file", 1)
    with pytest.raises(UsageError, match=r"can be written to, but '.*' is not: Not a directory\."):
        folder_of(tmp_path / "file" / "beneath", 1)
    with pytest.raises(UsageError, match="File name too long"):
        folder_of(tmp_path / ("x" * 300), 1)
    with pytest.raises(UsageError, match="got no name"):
        folder_of("", 1)


def test_processes_at_once(tmp_path):
    """Four processes write, read and evict the same keys: nobody fails or sees half a file."""
    script = f"""
import random, sys
from diffsegkit.cache_folder import CacheFolder
folder = CacheFolder({str(tmp_path)!r}, 12_500, ".bin")
rng = random.Random(int(sys.argv[1]))
for step in range(300):
    number = rng.randrange(40)
    key = f"{{number:02x}}" * 32
    data = folder.read(key)
    assert data in (None, bytes([number]) * 1000)
    if data is None:
        folder.write(key, bytes([number]) * 1000)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(seed)], stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    files = list(tmp_path.glob("*/*"))
    assert all(file.suffix == ".bin" for file in files)
    # What fits, and what each may have written since its last look.
    assert sum(file.stat().st_size for file in files) <= 12_500 + 4 * 2000
