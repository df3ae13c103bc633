"""Interrupt and go on; many processes, and each image once."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.evaluation.tiny import QUIET, TINY, TinySource, results, run

IDS = [f"image{n}" for n in range(7)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def journalled(folder):
    return [
        json.loads(line)["id"]
        for path in sorted(folder.glob("journal*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
    ]


def command(*args):
    return [sys.executable, "-m", "diffsegkit", *map(str, args)]


class InterruptionError(Exception):
    pass


@pytest.fixture
def interrupted(monkeypatch):
    """A source that breaks down at its fourth image."""
    forward = TinySource.forward

    def breaks(self, images, *, prompts=None):
        if TinySource.calls >= 3:
            raise InterruptionError("the power is gone")
        return forward(self, images, prompts=prompts)

    TinySource.calls = 0
    monkeypatch.setattr(TinySource, "forward", breaks)
    yield
    monkeypatch.setattr(TinySource, "forward", forward)


@pytest.mark.usefixtures("own_process")
class TestInOneProcess:
    def interrupt(self, data, interrupted, *options):
        assert run("test", *data, *TINY, *QUIET, "--name", "broken", *options) == 1

    def test_resumed_equals_unbroken(self, data, tmp_path, interrupted, monkeypatch, capsys):
        self.interrupt(data, interrupted)
        folder = tmp_path / "outputs" / "broken"
        assert journalled(folder) == IDS[:3]
        assert not (folder / "results.json").exists()
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        TinySource.calls = 0
        assert (
            run("test", *data, *TINY, *QUIET, "--name", "broken", "--resume", "--model.pictures", 0)
            == 0
        )
        assert TinySource.calls == 4
        assert journalled(folder) == IDS
        assert run("test", *data, *TINY, *QUIET, "--name", "unbroken") == 0
        broken, unbroken = (
            results(tmp_path / "outputs" / name)["results"][0]["scores"]
            for name in ("broken", "unbroken")
        )
        assert broken == unbroken
        tables = [
            (tmp_path / "outputs" / name / "per_image.csv").read_text()
            for name in ("broken", "unbroken")
        ]
        assert tables[0] == tables[1].replace("unbroken", "broken")

    def test_a_torn_line_is_done_again(self, data, tmp_path, interrupted, monkeypatch):
        self.interrupt(data, interrupted)
        journal = tmp_path / "outputs" / "broken" / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-20])
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        assert run("test", *data, *TINY, *QUIET, "--name", "broken", "--resume") == 0
        assert journalled(journal.parent) == IDS

    def test_nothing_is_lost_or_mixed_unasked(
        self, data, tmp_path, interrupted, monkeypatch, capsys
    ):
        self.interrupt(data, interrupted)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        assert run("test", *data, *TINY, *QUIET, "--name", "broken") == 2
        assert (
            "holds an interrupted run with 3 images done; go on with --resume"
            in capsys.readouterr().err
        )
        for options, changed in (
            (["--merger.thresholds", "[0.9]"], "methods.broken.merger.init_args.thresholds"),
            (["--model.variant", "tie_free"], "protocol.variant"),
            (["--data.crop", 32], "data.crop"),
        ):
            assert run("test", *data, *TINY, *QUIET, "--name", "broken", "--resume", *options) == 2
            assert f"{changed} differ" in capsys.readouterr().err
        assert journalled(tmp_path / "outputs" / "broken") == IDS[:3]
        assert run("test", *data, *TINY, *QUIET, "--name", "broken", "--overwrite") == 0

    def test_a_finished_run_may_be_repeated_or_resumed(self, data, tmp_path):
        for option in ([], ["--resume"], [], ["--overwrite"]):
            assert (
                run("test", *data, *QUIET, "--segmenter", "OneSegment", "--name", "x", *option) == 0
            )
            assert journalled(tmp_path / "outputs" / "x") == IDS
        rows = (tmp_path / "outputs" / "results.csv").read_text().strip().splitlines()
        assert len(rows) == 1 + 3  # the resumed run is the run before

    def test_a_foreign_journal(self, data, tmp_path, capsys):
        assert run("test", *data, *QUIET, "--segmenter", "OneSegment", "--name", "x") == 0
        folder = tmp_path / "outputs" / "x"
        line = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
        again = [*data, *QUIET, "--segmenter", "OneSegment", "--name", "x", "--resume"]
        # What another process measured alike is no loss ...
        (folder / "journal.1.jsonl").write_bytes(line)
        assert run("test", *again) == 0
        # ... but two measurements that differ cannot both be true.
        other = line.replace(b'"num_segments":1', b'"num_segments":2')
        (folder / "journal.1.jsonl").write_bytes(other)
        assert run("test", *again) == 1
        assert "1 are there twice and differ" in capsys.readouterr().err

    def test_what_has_changed_is_measured_again(
        self, folder, data, tmp_path, interrupted, monkeypatch
    ):
        self.interrupt(data, interrupted)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        label = folder / "labels" / "image1.png"
        label.write_bytes((folder / "labels" / "image2.png").read_bytes())
        TinySource.calls = 0
        resumed = [*data, *TINY, *QUIET, "--name", "broken", "--resume", "--model.pictures", 0]
        assert run("test", *resumed) == 0
        assert TinySource.calls == 4 + 1
        assert run("test", *data, *TINY, *QUIET, "--name", "unbroken") == 0
        broken, unbroken = (results(tmp_path / "outputs" / name) for name in ("broken", "unbroken"))
        assert broken["results"][0]["scores"] == unbroken["results"][0]["scores"]
        # The run is now one of the changed files: of these it may be repeated, of others not.
        plain = [option for option in resumed if option != "--resume"]
        assert run("test", *plain) == 0
        label.write_bytes((folder / "labels" / "image3.png").read_bytes())
        assert run("test", *plain) == 2

    def test_results_of_other_settings_are_not_replaced_unasked(self, data, tmp_path, capsys):
        slic = ["--segmenter", "SLIC", "--name", "x", *QUIET]
        assert run("test", *data, *slic) == 0
        before = (tmp_path / "outputs" / "x" / "results.json").read_bytes()
        assert run("test", *data, *slic, "--segmenter.num_segments", 3) == 2
        assert "holds the results of other settings" in capsys.readouterr().err
        assert run("test", *data, *slic, "--data.limit", 2) == 2
        assert (tmp_path / "outputs" / "x" / "results.json").read_bytes() == before
        assert run("test", *data, *slic, "--data.limit", 2, "--overwrite") == 0

    def test_two_runs_in_one_folder(self, data, tmp_path, capsys):
        from diffsegkit.evaluation.run_folder import RunFolder

        at_work = RunFolder(tmp_path / "outputs" / "x").begin({}, resume=False)
        for option in ([], ["--resume"], ["--overwrite"]):
            assert (
                run("test", *data, *QUIET, "--segmenter", "OneSegment", "--name", "x", *option) == 1
            )
            assert "Another process is writing" in capsys.readouterr().err
        at_work.close()
        assert run("test", *data, *QUIET, "--segmenter", "OneSegment", "--name", "x") == 0

    def test_predict_anew_leaves_nothing_of_another_run(self, data, tmp_path):
        assert run("predict", *data, *QUIET, "--segmenter", "OneSegment", "--name", "x") == 0
        assert (
            run("predict", *data, *QUIET, "--segmenter", "SLIC", "--name", "x", "--data.limit", 2)
            == 0
        )
        labels = tmp_path / "outputs" / "x" / "labels"
        assert sorted(path.stem for path in labels.glob("*.png")) == IDS[:2]

    def test_a_damaged_label_map_is_made_again(self, data, tmp_path, capsys):
        slic = ["--segmenter", "SLIC", "--name", "x", *QUIET]
        assert run("predict", *data, *slic) == 0
        labels = tmp_path / "outputs" / "x" / "labels"
        whole = (labels / "image3.png").read_bytes()
        (labels / "image3.png").write_text("x")
        assert run("predict", *data, *slic, "--resume") == 0
        assert "6 of 7 were done already" in capsys.readouterr().out
        assert (labels / "image3.png").read_bytes() == whole

    def test_label_maps_that_depend_on_the_ground_truth(self, folder, data, capsys):
        told = ["--merger", "KMeansMerger", "--model.num_segments", "target", "--name", "x"]
        assert run("predict", *data, *TINY, *QUIET, *told) == 0
        label = folder / "labels" / "image1.png"
        label.write_bytes((folder / "labels" / "image2.png").read_bytes())
        assert run("predict", *data, *TINY, *QUIET, *told, "--resume") == 0
        assert "done already" not in capsys.readouterr().out

    def test_predict_leaves_what_test_logged(self, data, tmp_path):
        options = [
            *data,
            "--trainer.enable_progress_bar",
            "false",
            "--segmenter",
            "OneSegment",
            "--name",
            "x",
        ]
        assert run("test", *options) == 0
        assert run("predict", *options) == 0
        assert (tmp_path / "outputs" / "x" / "logs" / "metrics.csv").exists()

    def test_predict_goes_on_where_it_stopped(
        self, data, tmp_path, interrupted, monkeypatch, capsys
    ):
        assert run("predict", *data, *TINY, *QUIET, "--name", "broken") == 1
        labels = tmp_path / "outputs" / "broken" / "labels"
        assert sorted(path.stem for path in labels.glob("*.png")) == IDS[:3]
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        stamp = (labels / "image0.png").stat().st_mtime_ns
        TinySource.calls = 0
        assert run("predict", *data, *TINY, *QUIET, "--name", "broken", "--resume") == 0
        assert "3 of 7 were done already" in capsys.readouterr().out
        assert TinySource.calls == 4
        assert (labels / "image0.png").stat().st_mtime_ns == stamp
        lines = [json.loads(line) for line in (labels / "manifest.jsonl").read_text().splitlines()]
        assert [line["id"] for line in lines] == IDS
        # Another configuration is another result.
        assert (
            run(
                "predict",
                *data,
                *TINY,
                *QUIET,
                "--name",
                "broken",
                "--resume",
                "--merger.thresholds",
                "[2]",
            )
            == 0
        )
        assert TinySource.calls == 11


def test_killed_at_random_moments(data, tmp_path):
    """kill -9, again and again, until it is through; then compared with an unbroken run."""
    slow = ["--source", "tests.evaluation.slow.SlowSource", "--image-size", "64"]
    options = [*data, *slow, *QUIET, "--model.pictures", 0]
    moments = random.Random(0)
    folder = tmp_path / "outputs" / "killed"
    kills = 0
    while kills < 20:
        process = subprocess.Popen(
            command("test", *options, "--name", "killed", "--resume"),
            cwd=tmp_path,
            env=with_tests(),
            stderr=subprocess.PIPE,
        )
        before = len(journalled(folder))
        while process.poll() is None and len(journalled(folder)) < before + 2:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        kills += 1
        assert process.returncode == -signal.SIGKILL, errors
        assert not (folder / "results.json").exists() or len(journalled(folder)) == 7
    assert kills >= 2
    done = subprocess.run(
        command("test", *options, "--name", "killed", "--resume"),
        cwd=tmp_path,
        env=with_tests(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(journalled(folder)) == IDS
    subprocess.run(
        command("test", *options, "--name", "unbroken"),
        cwd=tmp_path,
        env=with_tests(),
        check=True,
        capture_output=True,
    )
    killed, unbroken = (
        results(tmp_path / "outputs" / name)["results"][0]["scores"]
        for name in ("killed", "unbroken")
    )
    assert killed == unbroken


def test_killed_on_two_processes_and_resumed_on_one(data, tmp_path):
    """Rank 1 outlives the kill of the first process; what it is still writing is waited for."""
    slow = ["--source", "tests.evaluation.slow.SlowSource", "--image-size", "64"]
    options = [
        *data,
        *slow,
        *QUIET,
        "--model.pictures",
        0,
        "--trainer.accelerator",
        "cpu",
        "--name",
        "killed",
    ]
    folder = tmp_path / "outputs" / "killed"
    process = subprocess.Popen(
        command("test", *options, "--trainer.devices", 2),
        cwd=tmp_path,
        env=with_tests(),
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(journalled(folder)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(30):
        done = subprocess.run(
            command("test", *options, "--resume"),
            cwd=tmp_path,
            env=with_tests(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            break
        assert "Another process is writing" in done.stderr
    assert done.returncode == 0, done.stderr
    assert sorted(journalled(folder)) == IDS
    assert (
        run_alone(options, tmp_path)["results"][0]["scores"]
        == results(folder)["results"][0]["scores"]
    )


def run_alone(options, tmp_path):
    unbroken = [*options[:-1], "unbroken"]
    subprocess.run(
        command("test", *unbroken), cwd=tmp_path, env=with_tests(), check=True, capture_output=True
    )
    return results(tmp_path / "outputs" / "unbroken")


def test_interrupted_from_the_keyboard(data, tmp_path):
    slow = ["--source", "tests.evaluation.slow.SlowSource", "--image-size", "64"]
    line = command("test", *data, *slow, *QUIET, "--name", "stopped")
    process = subprocess.Popen(line, cwd=tmp_path, env=with_tests(), stderr=subprocess.PIPE)
    folder = tmp_path / "outputs" / "stopped"
    while process.poll() is None and not journalled(folder):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert b"interrupted" in errors
    assert b"Traceback" not in errors
    assert journalled(folder)


def with_tests():
    """An environment in which the tests' modules are found."""
    from pathlib import Path

    return {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}


def in_processes(number, data, cwd, *options):
    line = command(
        "test",
        *data,
        *TINY,
        *QUIET,
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        number,
        "--name",
        f"on{number}",
        *options,
    )
    return subprocess.run(
        line, cwd=cwd, env=with_tests(), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "number", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_each_image_counts_once_on_any_number_of_processes(number, data, tmp_path):
    for processes in (1, number):
        done = in_processes(processes, data, tmp_path)
        assert done.returncode == 0, done.stderr
    one, many = (results(tmp_path / "outputs" / f"on{processes}") for processes in (1, number))
    assert many["processes"] == number
    assert one["results"][0]["scores"] == many["results"][0]["scores"]
    folder = tmp_path / "outputs" / f"on{number}"
    assert sorted(journalled(folder)) == IDS
    files = [path.stat().st_size > 0 for path in folder.glob("journal*.jsonl")]
    assert (len(files), sum(files)) == (number, min(number, 7))
    tables = [
        (tmp_path / "outputs" / f"on{processes}" / "per_image.csv").read_text()
        for processes in (1, number)
    ]
    assert tables[0].replace("on1", "on") == tables[1].replace(f"on{number}", "on")


def test_a_failure_in_one_of_two_processes_ends_both(folder, data, tmp_path):
    path = folder / "images" / "image5.png"  # the second process's share
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    done = in_processes(2, data, tmp_path)
    assert done.returncode == 1
    assert "image5.png' is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    path.write_bytes(whole)
    # On another number of processes it goes on.
    line = command("test", *data, *TINY, *QUIET, "--name", "on2", "--resume")
    done = subprocess.run(
        line, cwd=tmp_path, env=with_tests(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(journalled(tmp_path / "outputs" / "on2")) == IDS
