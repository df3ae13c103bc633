"""``diffsegkit data check`` as a user runs it."""

import logging
import sys
import warnings

import pytest

from diffsegkit.cli.main import main
from tests.data.layouts import folder, pascal_voc, quarters, write_label


@pytest.fixture(autouse=True)
def own_process(monkeypatch, tmp_path):
    """Undo what the entry point sets for its process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("diffsegkit"), "handlers", [])
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(*args):
    return main(["data", *map(str, args)])


def test_a_clean_data_set(tmp_path, capsys):
    folder(tmp_path)
    assert run("check", "Folder", "--images", "images", "--labels", "labels") == 0
    captured = capsys.readouterr()
    assert captured.out == "Folder, split 'all': 3 images, no problem\n"
    assert captured.err == ""


def test_every_problem_has_its_line(tmp_path, capsys):
    root = pascal_voc(tmp_path)
    maps = root / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    (maps / "2007_000033.png").unlink()
    write_label(maps / "2007_000042.png", quarters([0, 1, 2, 77]))
    (maps / "2007_000061.png").write_bytes(b"nothing")
    assert run("check", "PascalVOC", "--root", root, "--split", "val") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "officially has 1449 images, but 3 were found" in lines[0]
    assert "has no label" in lines[1]
    assert "stand for no class: 77" in lines[2]
    assert "damaged" in lines[3]
    assert lines[4] == "PascalVOC, split 'val': 3 images, 4 problems"
    # Any argument of the data module is an option.
    assert run("check", "PascalVOC", "--root", root, "--limit", "1") == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 images, 1 problem")


def test_a_data_set_that_is_not_there(tmp_path, capsys):
    assert run("check", "CamVid", "--root", tmp_path / "none") == 1
    out = capsys.readouterr().out
    assert "Expected below `root`:\n  CamVid/val/0016E5_07959.png\n" in out
    assert out.endswith("CamVid, split 'val': 0 images, 1 problem\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["chek"], "There is no 'data chek'; did you mean 'check'?"),
        (["check"], "Expected the name of a data set"),
        (["check", "--root", "x"], "Expected the name of a data set"),
        (["check", "CamVd", "--root", "x"], "Did you mean 'CamVid'?"),
        (["check", "CamVid"], "CamVid needs --root"),
        (["check", "CamVid", "--root", "x", "--splt", "val"], "did you mean '--split'?"),
        (["check", "CamVid", "--root", "x", "--split", "vall"], "has no split 'vall'"),
        (["check", "CamVid", "--root", "x", "--limit", "some"], "--limit"),
        (["check", "Folder", "--images", "x", "--mapping", "none.json"], "cannot be read"),
    ],
)
def test_usage(args, message, capsys):
    assert run(*args) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_help(capsys):
    assert run() == 2
    assert "usage: diffsegkit data check NAME" in capsys.readouterr().out
    for args in (["--help"], ["check", "--help"]):
        assert run(*args) == 0
        assert "diffsegkit data check PascalVOC --root data" in capsys.readouterr().out
    assert run("check", "Folder", "--help") == 0
    out = capsys.readouterr().out
    assert "--mapping" in out
    assert "A file that says which class each value is." in out
