"""``diffsegkit bench``."""

import csv
import logging
import os
import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch

from diffsegkit.bench import suite
from diffsegkit.bench.case import Contender
from diffsegkit.bench.cases import CASES, load_case
from diffsegkit.bench.measure import measure
from diffsegkit.cli.main import main
from tests.bench.conftest import change_case


@pytest.fixture
def bench(small, monkeypatch, capsys):
    """Run the command on small sizes, in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("diffsegkit"), "handlers", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(suite, "run_case", partial(suite.run_case, measure=measure))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))

    def run(*args):
        status = main(["bench", *map(str, args)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("args", ["--list", "--help"])
def test_these_import_no_torch(args):
    script = f"""
import sys
from diffsegkit.cli.main import main
assert main(["bench", "{args}"]) == 0
assert not {{"torch", "numpy", "diffusers"}} & set(sys.modules), "a heavy import"
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_list(bench):
    status, out, _ = bench("--list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(CASES)
    assert out.count("(Takes long.)") == 2


def test_results_are_printed_and_added(bench, tmp_path):
    path = tmp_path / "deep" / "results.csv"
    options = ("--rounds", 1, "--repeats", 1, "--device", "cpu", "--out", path)
    status, out, err = bench("anchors", *options)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "anchors, anchors=16 maps=64"
    assert lines[1].startswith("  diffsegkit / matrix form: ")
    assert "threads, Python" in lines[-1]
    assert bench("assign", *options)[0] == 0
    with path.open(newline="") as file:
        cases = [row["case"] for row in csv.DictReader(file)]
    assert sorted(set(cases)) == ["anchors", "assign"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["ancors"],
            "There is no case 'ancors'; did you mean 'anchors'? The cases are pairwise-kl",
        ),
        (["--rounds", "0"], "Expected --rounds to be at least 1, but got 0."),
        (["--repeats", "0"], "Expected --repeats to be at least 1, but got 0."),
        (["--rounds", "many"], "--rounds: expected int, but got 'many'."),
        (["--device", "tpu"], "The device 'tpu' cannot be used here"),
        (["--device", "meta"], "The device 'meta' cannot be used here"),
        (["anchors", "--out", "/proc/none/results.csv"], "can be written to, but '/proc/none'"),
        (["anchors", "--out", "."], "is a folder"),
        (["--case", "anchors"], "There is no option --case"),
    ],
)
def test_wrong_usage(bench, args, message):
    status, out, err = bench(*args)
    assert (status, out) == (2, "")
    assert err.startswith("diffsegkit: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_other_columns_are_told_before_anything_is_measured(bench, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("case,ms\n")
    status, out, err = bench("anchors", "--out", path)
    assert (status, out) == (2, "")
    assert "but got case,ms; give --out another name" in err


def test_what_is_wrong_gives_1_and_what_is_too_large_does_not(bench, monkeypatch):
    right = load_case("anchors").contenders(torch.device("cpu"))
    large = Contender("large", "baseline", lambda _: bytearray(2**62), 1e-3)
    options = ("anchors", "--rounds", 1, "--repeats", 1, "--device", "cpu")
    change_case(monkeypatch, "anchors", contenders=lambda _: [*right, large])
    status, out, _ = bench(*options)
    assert status == 0
    assert "out of memory: MemoryError" in out
    wrong = Contender("wrong", "baseline", lambda xy: xy[0] @ xy[1].T, 1e-3)
    change_case(monkeypatch, "anchors", contenders=lambda _: [*right, wrong])
    status, out, _ = bench(*options)
    assert status == 1
    assert "differs: " in out


def test_a_busy_machine_is_told(bench, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, _, err = bench("anchors", "--rounds", 1, "--repeats", 1, "--device", "cpu")
    assert status == 0
    assert err.startswith("diffsegkit: note: 99.0 programs have been running on the ")


@pytest.mark.slow
def test_the_command_as_it_is(tmp_path):
    """At real sizes, in processes of their own."""
    command = [sys.executable, "-m", "diffsegkit", "bench", "assign", "--rounds", "1"]
    options = ["--repeats", "1", "--out", tmp_path / "results.csv", "--device", "cpu"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "assign, proposals=12 cells=64 pixels=2048" in done.stdout
