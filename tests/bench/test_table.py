"""Results as Markdown."""

import sys

from diffsegkit.bench.results_file import append_rows
from experiments.benchmarks import table
from tests.bench.test_results_file import row


def test_the_table(tmp_path, monkeypatch, capsys):
    path = tmp_path / "results.csv"
    rows = [
        row(milliseconds=[100.0]),
        row("matrix form", "baseline", milliseconds=[250.0], peak_mib=40.0),
        row("bare product", "floor", milliseconds=[0.5], peak_mib=None),
        row("diffsegkit: a step", "part", milliseconds=[1.0, 2.0, 3.0]),
        row("large", "baseline", milliseconds=[]),
    ]
    append_rows(path, rows)
    monkeypatch.setattr(sys, "argv", ["table.py", str(path)])
    table.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:7] == [
        "| a case | tokens=16 | diffsegkit | - | 100 (100 to 100) | 10 |",
        "| a case | tokens=16 | matrix form | 0.40 | 250 (250 to 250) | 40 |",
        "| a case | tokens=16 | bare product (floor) | 200.00 | 0.5 (0.5 to 0.5) | - |",
        "| a case | tokens=16 | diffsegkit: a step | - | 2 (1.4 to 2.6) | 10 |",
        "| a case | tokens=16 | large | - | - | 10 |",
    ]
    assert "2 threads, python 3" in lines[8]
    monkeypatch.setattr(sys, "argv", ["table.py", str(path), "--case", "another"])
    table.main()
    assert capsys.readouterr().out == ""
