"""The entry point, ``list`` and ``doctor``."""

import os
import re
import subprocess
import sys

import pytest

from diffsegkit.cli.main import COMMANDS
from tests.plugins import MERGER, install


def diffsegkit(*args, site=None, cwd=None):
    environment = dict(os.environ)
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [sys.executable, "-m", "diffsegkit", *args],
        capture_output=True, text=True, timeout=120, env=environment, cwd=cwd, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("args", ["['--version']", "['list']", "['--help']", "['list', '--help']"])
def test_quick_commands_import_no_torch(args):
    script = f"""
import sys
from diffsegkit.cli.main import main
status = main({args})
assert status == 0, status
assert not {{"torch", "kornia", "numpy"}} & set(sys.modules), "a heavy import"
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_version_and_help():
    assert re.fullmatch(r"diffsegkit \d+\.\d+\.\d+\n", diffsegkit("--version").stdout)
    overview = diffsegkit("--help").stdout
    for command, summary in COMMANDS.items():
        assert command in overview
        assert summary in overview
        result = diffsegkit(command, "--help")
        assert result.returncode == 0, result.stderr
        assert f"usage: diffsegkit {command}" in result.stdout
        assert "Namespace" not in result.stdout


def test_no_command_and_a_wrong_one():
    nothing = diffsegkit()
    assert nothing.returncode == 2
    assert "usage: diffsegkit COMMAND" in nothing.stdout
    wrong = diffsegkit("segmnt")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "diffsegkit: error: There is no command 'segmnt'; did you mean 'segment'? The commands "
        "are segment, test, predict, sweep, data, download, bench, new-plugin, list, doctor.\n"
    )


def test_the_help_of_a_part():
    for args, option in {
        ("--merger.help", "KMeansMerger"): "--merger.num_segments",
        ("--merger.help=KMeansMerger",): "--merger.num_segments",
        ("--merger.help",): "--merger.thresholds",
        ("--source.help",): "--source.cells",
    }.items():
        result = diffsegkit("segment", *args)
        assert result.returncode == 0
        assert option in result.stdout
        assert ":class:" not in result.stdout
    overview = diffsegkit("segment", "--help").stdout
    assert "--merger.thresholds" in overview
    assert "ArgmaxAssigner: no options" in overview


def test_list_shows_plugins_and_check_what_is_broken(tmp_path):
    install(tmp_path, "whole", MERGER, [("mergers", "WholeImage = whole:WholeImage")])
    assert diffsegkit("list", "--check", site=tmp_path).returncode == 0
    install(tmp_path, "broken", "import nothing_there", [("mergers", "Broken = broken:Broken")])
    listed = diffsegkit("list", "mergers", site=tmp_path)
    assert listed.returncode == 0
    assert re.search(r"^  WholeImage +whole +1\.2 +A plugin for tests\.$", listed.stdout, re.M)
    assert re.search(r"^  Broken +broken ", listed.stdout, re.M)
    checked = diffsegkit("list", "mergers", "--check", site=tmp_path)
    assert checked.returncode == 1
    assert re.search(r"^  ok +WholeImage", checked.stdout, re.M)
    assert re.search(
        r"^  broken +Broken.*\n.*No module named 'nothing_there'", checked.stdout, re.M
    )


def test_list_narrows_down():
    assert diffsegkit("list", "presets", "aff*").stdout.splitlines()[0] == "presets"
    assert "No component matches 'zzz'" in diffsegkit("list", "mergers", "zzz").stdout
    wrong = diffsegkit("list", "fusers")
    assert wrong.returncode == 2
    assert "the kinds are sources, aggregators" in wrong.stderr


def test_a_reader_that_goes_away_is_no_error():
    script = f"{sys.executable} -m diffsegkit list | head -n 1"
    result = subprocess.run(script, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout == "sources\n"
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


def test_doctor(tmp_path):
    well = diffsegkit("doctor")
    assert well.returncode == 0, well.stderr
    for expected in (r"torch \d", r"cpu: ", r"affinity: ready\.", r"broken components\n  none"):
        assert re.search(expected, well.stdout)
    preset = """
        from diffsegkit import Preset
        from diffsegkit.presets.preset import part
        needy = Preset("Needy.", part("AffinitySource"), requires=["not_there"], extra="x[y]")
    """
    install(tmp_path, "needy", preset, [("presets", "needy = needy:needy")])
    wrong = """
        from diffsegkit.presets import Preset, part
        misspelt = Preset("Misspelt.", part("AffinitySource", celz=3))
        empty = Preset("Empty.", 3)
    """
    presets = [("presets", "misspelt = wrong:misspelt\nempty = wrong:empty")]
    install(tmp_path, "wrong", wrong, presets)
    install(tmp_path, "broken", "1 / 0", [("mergers", "Broken = broken:Broken")])
    ill = diffsegkit("doctor", site=tmp_path)
    assert ill.returncode == 1
    assert "misspelt: cannot run. AffinitySource has no argument 'celz'" in ill.stdout
    assert "empty: cannot run. Expected the source to be a name" in ill.stdout
    assert "affinity: ready" in ill.stdout
    checked = diffsegkit("list", "presets", "--check", site=tmp_path)
    assert len(re.findall("^  broken", checked.stdout, re.M)) == 3
    assert "needy: cannot run. This preset needs not_there: pip install 'x[y]'." in ill.stdout
    assert "ZeroDivisionError" in ill.stdout


def test_a_broken_plugin_stops_nobody_else(tmp_path, photo):
    from PIL import Image

    install(tmp_path, "broken", "1 / 0", [("mergers", "Broken = broken:Broken")])
    Image.fromarray(photo).save(tmp_path / "a.png")
    result = diffsegkit("segment", "a.png", "--out", "out", site=tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    install(tmp_path, "rival", MERGER, [("mergers", "IterativeKLMerger = rival:WholeImage")])
    result = diffsegkit("segment", "a.png", "--out", "out", site=tmp_path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    asked = diffsegkit(
        "segment", "a.png", "--out", "out", "--merger", "Broken", site=tmp_path, cwd=tmp_path
    )
    assert asked.returncode == 2
    assert "an entry point of broken 1.2): ZeroDivisionError" in asked.stderr
