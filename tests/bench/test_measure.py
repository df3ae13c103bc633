"""Time, memory, and the process in which they are measured."""

import stat
import sys

import numpy as np
import pytest
import torch

from diffsegkit.bench import machine, memory
from diffsegkit.bench import measure as measure_module
from diffsegkit.bench.case import Contender
from diffsegkit.bench.cases import load_case
from diffsegkit.bench.machine import describe_machine
from diffsegkit.bench.measure import measure
from diffsegkit.bench.memory import watch_peak
from diffsegkit.bench.process import measure_apart
from diffsegkit.bench.request import Outcome, Request
from diffsegkit.bench.row import percentiles
from tests.bench.conftest import change_case

CPU = torch.device("cpu")
REQUEST = Request("anchors", "matrix form", {"anchors": 16, "maps": 64}, "cpu", 3)
MIB = 2**20


def floats(mib):
    return torch.ones(mib * MIB // 4)


def test_memory_is_that_beyond_the_inputs():
    floats(600).sum()  # an earlier peak, which is over
    inputs = floats(100)
    peak = watch_peak(CPU)
    assert peak() < 10
    result = floats(200)
    del result
    assert 195 < peak() < 230
    result = floats(50)
    assert 195 < peak() < 230  # the peak, not what is in use
    assert inputs[0] == result[0]


def test_memory_taken_from_what_is_free_already():
    some = [torch.ones(2**18) for _ in range(200)]  # 1 MiB each, which the allocator keeps
    del some
    peak = watch_peak(CPU)
    again = [torch.ones(2**18) for _ in range(200)]
    assert peak() > 190
    assert len(again) == 200


def test_without_a_reset_only_a_new_peak_is_known(monkeypatch, tmp_path):
    memory._give_back_free_memory()  # what other tests have left
    assert memory._reset_peak()
    floats(600).sum()
    monkeypatch.setattr(memory, "_RESET", tmp_path / "absent" / "clear_refs")
    peak = watch_peak(CPU)
    floats(100).sum()
    assert peak() is None
    floats(800).sum()
    assert 780 < peak() < 850


def test_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert watch_peak(CPU)() is None


def test_a_measurement_in_a_process_of_its_own(tmp_path):
    """The inputs are not counted, and the result is."""
    size = {"anchors": 256, "maps": 4096}  # inputs of 68 MiB, and a result of 4 MiB
    ours = Request("anchors", "diffsegkit", size, "cpu", 1, save=str(tmp_path / "ours.pt"))
    own = measure_apart(ours)
    assert (own.status, own.difference) == ("ok", None), own.note
    assert 4 < own.peak_mib < 60
    assert own.threads > 0
    other = measure_apart(
        Request("anchors", "matrix form", size, "cpu", 1, reference=str(tmp_path / "ours.pt"))
    )
    assert other.status == "ok", other.note
    assert 0 < other.difference < 1e-3
    assert 130 < other.peak_mib < 170  # the logarithms of both


def test_the_working_directory_stands_in_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    assert measure_apart(REQUEST).status == "ok"


@pytest.mark.parametrize(
    ("script", "status", "note"),
    [
        ("kill -9 $$", "out of memory", "SIGKILL"),
        ("echo first >&2; echo last words >&2; exit 3", "failed", "ended with 3: last words"),
        ("kill -11 $$", "failed", "ended with -11: without a word"),
    ],
)
def test_a_process_that_dies(tmp_path, monkeypatch, script, status, note):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    outcome = measure_apart(REQUEST)
    assert outcome.status == status
    assert note in outcome.note


def test_json_there_and_back():
    assert Request.from_json(REQUEST.to_json()) == REQUEST
    outcome = Outcome("ok", [1.5, 2.0], 3.25, 1e-7, 2, "")
    assert Outcome.from_json(outcome.to_json()) == outcome
    assert "\n" not in outcome.to_json()


def test_how_often_is_timed(monkeypatch):
    def times(repeats, at_least, at_most):
        monkeypatch.setattr(measure_module, "_AT_LEAST_MS", at_least)
        monkeypatch.setattr(measure_module, "_AT_MOST_MS", at_most)
        clock = iter(range(1000))
        monkeypatch.setattr(measure_module.time, "perf_counter", lambda: next(clock))
        return measure_module._times(lambda: None, repeats, CPU)  # each takes a second

    assert times(5, 0, 1e9) == [1000] * 5
    assert len(times(2, 4000, 1e9)) == 4  # what is fast is timed more often
    assert len(times(5, 0, 2500)) == 3  # and what is slow less
    assert len(times(5, 0, 0)) == 1


def test_the_first_run_is_not_timed(monkeypatch):
    monkeypatch.setattr(measure_module, "_AT_LEAST_MS", 0)
    calls = []
    added = Contender("counted", "baseline", lambda xy: calls.append(xy) or xy[0], 1.0)
    right = load_case("anchors").contenders(CPU)
    change_case(monkeypatch, "anchors", contenders=lambda _: [*right, added])
    outcome = measure(Request("anchors", "counted", REQUEST.size, "cpu", 3))
    assert len(outcome.milliseconds) == 3
    assert len(calls) == 4


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_percentiles(count):
    values = np.random.default_rng(count).exponential(size=count)
    np.testing.assert_allclose(percentiles(values.tolist()), np.percentile(values, [20, 50, 80]))


def test_the_machine(monkeypatch):
    described = describe_machine(CPU)
    assert described.device.startswith("cpu (")
    assert described.torch == torch.__version__
    assert len(described.date) == 10
    state = {"commit": "abc", "changed": True}
    monkeypatch.setattr(machine, "git_state", lambda _: state)
    assert describe_machine(CPU).commit == "abc+dirty"
    state["changed"] = False
    assert describe_machine(CPU).commit == "abc"
    monkeypatch.setattr(machine, "git_state", lambda _: None)
    assert describe_machine(CPU).commit == ""


def test_an_installed_package_has_no_commit(monkeypatch, tmp_path):
    """It may lie within the repository of something else."""
    monkeypatch.setattr(machine, "_SOURCES", tmp_path)
    monkeypatch.setattr(machine, "git_state", lambda _: {"commit": "other", "changed": False})
    assert describe_machine(CPU).commit == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    device = torch.device("cuda")
    inputs = torch.ones(100 * MIB // 4, device=device)
    peak = watch_peak(device)
    result = torch.ones(200 * MIB // 4, device=device)
    del result
    assert 195 < peak() < 210
    del inputs
    outcome = measure_apart(
        Request("anchors", "diffsegkit", {"anchors": 256, "maps": 4096}, "cuda", 3)
    )
    assert outcome.status == "ok", outcome.note
    assert outcome.peak_mib < 60
