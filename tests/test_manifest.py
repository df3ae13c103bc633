"""What a folder of results says is done."""

from dataclasses import asdict

import pytest

from diffsegkit.errors import DiffSegKitError
from diffsegkit.manifest import Entry, Manifest, digest, file_digest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one.png").write_bytes(b"labels")
    entry = Entry(id="one", sha256="ab", configuration="c1", files={"one.png": 6}, num_segments=3)
    with Manifest(tmp_path).journal() as journal:
        journal.append(asdict(entry))
    return tmp_path


def test_done_is_this_image_with_this_configuration_and_its_files(folder):
    def is_done(image="one", sha256="ab", configuration="c1"):
        return Manifest(folder).is_done(image, sha256=sha256, configuration=configuration)

    assert is_done()
    assert not is_done(image="two")
    assert not is_done(sha256="cd")
    assert not is_done(sha256=None)
    assert not is_done(configuration="c2")
    (folder / "one.png").unlink()
    assert not is_done()


def test_the_last_line_of_an_image_counts(folder):
    entry = Entry(id="one", sha256="ab", configuration="c2", files={"one.png": 6}, num_segments=4)
    with Manifest(folder).journal() as journal:
        journal.append(asdict(entry))
    assert Manifest(folder).is_done("one", sha256="ab", configuration="c2")
    assert not Manifest(folder).is_done("one", sha256="ab", configuration="c1")


def test_somebody_elses_manifest(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"id": "page", "url": "x"}\n')
    with pytest.raises(DiffSegKitError, match="is not a manifest of diffsegkit"):
        Manifest(tmp_path)


def test_digests(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert file_digest(tmp_path / "empty") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert file_digest(tmp_path / "absent") is None
    assert file_digest(tmp_path) is None
    assert digest({"a": {"b": 1, "c": [2]}}) == digest({"a": {"c": [2], "b": 1}})
    assert digest({"a": 1}) != digest({"a": 2})
