"""Each plugin of this repository, installed alone with the core, and uninstalled again."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def pip(*args, python=sys.executable):
    command = [sys.executable, "-m", "pip", "--python", python, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A wheel of the core and of each plugin, as their users would get them."""
    folder = tmp_path_factory.mktemp("wheels")
    pip(
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        ROOT,
        *PLUGINS,
    )
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """What is installed here but for diffsegkit and its plugins, to be shared with environments."""
    folder = tmp_path_factory.mktemp("libraries")
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "diffsegkit" not in path.name and not path.name.endswith(".pth"):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def environment(tmp_path, libraries, wheels):
    """A fresh environment with the core alone; gives a function that runs Python in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    [site] = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(str(libraries))
    [core] = wheels.glob("diffsegkit-*.whl")
    pip("install", "--quiet", "--no-deps", "--no-index", core, python=python)
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*args):
        return subprocess.run(
            [python, *map(str, args)], capture_output=True, text=True, cwd=tmp_path, env=variables
        )

    run.python = python
    return run


@pytest.mark.slow
@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_alone_with_the_core(folder, environment, wheels, tmp_path):
    declared = project(folder)
    names = {name for group in declared["entry-points"].values() for name in group}
    before = environment("-m", "diffsegkit", "list")
    assert declared["name"] not in before.stdout
    [wheel] = wheels.glob(f"{declared['name'].replace('-', '_')}-*.whl")
    pip("install", "--quiet", "--no-deps", "--no-index", wheel, python=environment.python)

    listed = environment("-m", "diffsegkit", "list", "--check")
    assert listed.returncode == 0, listed.stdout
    lines = [line.split() for line in listed.stdout.splitlines() if declared["name"] in line]
    assert {words[1] for words in lines} == names
    assert {words[0] for words in lines} == {"ok"}
    others = {project(other)["name"] for other in PLUGINS if other != folder}
    assert not any(f" {other} " in listed.stdout for other in others)

    # All but the package itself, so that the installed one is tested.
    ignore = shutil.ignore_patterns("diffsegkit_*", "__pycache__", ".*")
    shutil.copytree(folder, tmp_path / "plugin", ignore=ignore)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", tmp_path / "plugin"]
    tested = environment("-m", "pytest", *options, tmp_path / "plugin" / "tests")
    assert tested.returncode == 0, tested.stdout[-3000:]

    pip("uninstall", "--quiet", "--yes", declared["name"], python=environment.python)
    after = environment("-m", "diffsegkit", "list")
    assert after.stdout == before.stdout
    Image.new("RGB", (64, 48), (200, 40, 40)).save(tmp_path / "photo.png")
    segmented = environment("-m", "diffsegkit", "segment", "photo.png", "--out", "segments")
    assert segmented.returncode == 0, segmented.stderr
    assert (tmp_path / "segments" / "photo.json").is_file()


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_each_says_what_it_is(folder):
    declared = project(folder)
    assert declared["name"] == f"diffsegkit-{folder.name}"
    assert (folder / "README.md").read_text().startswith(f"# {declared['name']}\n")
    assert list(folder.glob("tests/test_*.py"))
    assert any(each.startswith("diffsegkit") for each in declared["dependencies"])


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_only_public_names_of_the_core_are_used(folder):
    """What is in no ``__all__`` may change without notice."""
    [package] = folder.glob("diffsegkit_*")
    imported = [
        (node.module, each.name)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "diffsegkit"
        for each in node.names
    ]
    assert imported
    for module, name in set(imported):
        home = importlib.import_module(module)
        is_module = isinstance(getattr(home, name), ModuleType)
        assert name in getattr(home, "__all__", ()) or is_module, f"from {module} import {name}"
