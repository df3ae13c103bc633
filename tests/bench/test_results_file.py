"""The CSV of results."""

import csv

import pytest
import torch

from diffsegkit.bench.case import Contender
from diffsegkit.bench.machine import describe_machine
from diffsegkit.bench.report import describe_conditions, report
from diffsegkit.bench.request import Outcome
from diffsegkit.bench.results_file import append_rows, check_results_file
from diffsegkit.bench.row import COLUMNS, make_row
from diffsegkit.errors import UsageError

MACHINE = describe_machine(torch.device("cpu"))


def row(name="diffsegkit", role="ours", **outcome):
    given = {"milliseconds": [1.0, 2.0, 3.0], "peak_mib": 10.0, "threads": 2, **outcome}
    contender = Contender(name, role, lambda x: x, 0.1)
    return make_row("a case", contender, {"tokens": 16}, [Outcome("ok", **given)], MACHINE)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_added(tmp_path):
    path = tmp_path / "new" / "results.csv"
    check_results_file(path)
    append_rows(path, [row()])
    append_rows(path, [row("other, with a comma", peak_mib=None), row(difference=float("inf"))])
    first, second, third = read(path)
    assert tuple(first) == COLUMNS
    assert (first["p20_ms"], first["p50_ms"], first["p80_ms"]) == ("1.4", "2", "2.6")
    assert (first["repeats"], first["peak_mib"], first["difference"]) == ("3", "10", "")
    assert (second["contender"], second["peak_mib"]) == ("other, with a comma", "")
    assert third["difference"] == "inf"
    assert [each.name for each in path.parent.iterdir()] == ["results.csv"]


def test_a_last_line_without_an_end(tmp_path):
    path = tmp_path / "results.csv"
    append_rows(path, [row()])
    path.write_text(path.read_text().rstrip("\n"))
    append_rows(path, [row()])
    assert len(read(path)) == 2


@pytest.mark.parametrize("content", [b"case,contender\n", b"\xff\xfe\x00", b"a poem\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    for refuse in (lambda: check_results_file(path), lambda: append_rows(path, [row()])):
        with pytest.raises(UsageError, match="another name"):
            refuse()
    assert path.read_bytes() == content


def test_an_empty_file(tmp_path):
    path = tmp_path / "results.csv"
    path.touch()
    append_rows(path, [row()])
    assert len(read(path)) == 1


def test_places_that_take_no_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a folder"):
        check_results_file(tmp_path)
    with pytest.raises(UsageError, match="the folder of --out to be a folder, but .* is a file"):
        check_results_file(tmp_path / "file" / "results.csv")
    with pytest.raises(UsageError, match="can be written to"):
        check_results_file(tmp_path.joinpath("/proc/none/results.csv"))


def test_ratios_come_first():
    rows = [
        row(),
        row("matrix form", "baseline", milliseconds=[4.0], peak_mib=40.0),
        row("bare product", "floor", milliseconds=[1.0]),
        row("diffsegkit: a step", "part", milliseconds=[1.0, 2.0, 6.0]),
        row("unmeasured", "baseline", milliseconds=[8.0], peak_mib=None),
    ]
    lines = report(rows)
    assert lines[:5] == [
        "a case, tokens=16",
        "  diffsegkit / matrix form: 0.50 of the time, 0.25 of the memory",
        "  diffsegkit / bare product: 2.00 of the time (the floor)",
        "  diffsegkit / unmeasured: 0.25 of the time",
        "",
    ]
    assert lines[6].split() == ["diffsegkit", "1.400", "2.000", "2.600", "10", "-"]
    assert lines[7].endswith(" -")
    assert lines[9].endswith(" -  unsteady: p80 is 3.1 times p20")
    assert len(lines) == 6 + len(rows)
    assert "2 threads" in describe_conditions(rows[0])
