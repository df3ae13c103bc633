"""The wheel holds the package, its types and its entry points; the source archive all the rest."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [wheel] = tmp_path.glob("diffsegkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [entry_points] = [name for name in names if name.endswith("/entry_points.txt")]
        declared = archive.read(entry_points).decode()
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("diffsegkit/**/*.py")}
    packaged = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    files = [
        *ROOT.glob("diffsegkit/data/labelmaps/*"),
        *ROOT.glob("diffsegkit/sources/stable_diffusion/configs/*/*/*.json"),
        *ROOT.glob("diffsegkit/plugin_template/*/*.txt"),
    ]
    data = {str(path.relative_to(ROOT)) for path in files} | {"diffsegkit/py.typed"}
    assert packaged == modules | data
    assert "IterativeKLMerger = diffsegkit.mergers:IterativeKLMerger" in declared
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_source_archive(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "-d", tmp_path]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=ROOT)
    [archive] = tmp_path.glob("diffsegkit-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = [
        *ROOT.glob("plugins/*/pyproject.toml"),
        *ROOT.glob("plugins/*/diffsegkit_*/*.py"),
        *ROOT.glob("plugins/*/tests/*.py"),
        *ROOT.glob("tests/*.py"),
        *ROOT.glob("docs/*.md"),
        ROOT / "Makefile",
        ROOT / "constraints.txt",
    ]
    assert {str(path.relative_to(ROOT)) for path in wanted} <= names
    # What builds and tests leave behind.
    assert not any("__pycache__" in name or ".egg-info" in name for name in names)
