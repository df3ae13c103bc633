"""A package for each kind of component, which installs, is found, and passes its own test."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from diffsegkit import registry
from diffsegkit.cli import new_plugin
from diffsegkit.cli.main import main
from tests.plugins import install

ROOT = Path(__file__).parents[2]
KINDS = {
    "source": "MyMethodSource",
    "aggregator": "MyMethodAggregator",
    "merger": "MyMethodMerger",
    "anchors": "MyMethodAnchors",
    "assigner": "MyMethodAssigner",
    "namer": "MyMethodNamer",
    "segmenter": "MyMethodSegmenter",
    "datamodule": "MyMethodData",
    "preset": "my-method",
}


def run(*args):
    return main(["new-plugin", *map(str, args)])


def text_of(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg" not in str(path)
    }


def used_as_its_readme_says(folder, options):
    """Run the last command of the README of a plugin that is installed."""
    place = options["cwd"]
    Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 50).convert("RGB").save(place / "photo.jpg")
    for name, mode in (("images/one.jpg", "RGB"), ("labels/one.png", "L")):
        path = place / "DIR" / "val" / name
        path.parent.mkdir(parents=True)
        Image.new(mode, (8, 6), 0).save(path)
    install, listing, use = re.findall(
        r"^    (\S.*)$", (folder / "README.md").read_text(), re.MULTILINE
    )
    assert install == "pip install ."
    for command in (listing, use):
        program, *args = shlex.split(command)
        assert program == "diffsegkit"
        done = subprocess.run([sys.executable, "-m", "diffsegkit", *args], **options)
        assert done.returncode == 0, done.stderr
    if " segment " in use:
        assert (place / "segments" / "photo_labels.png").is_file()


def test_every_kind_has_a_template():
    assert {kind.plural for kind in new_plugin._KINDS.values()} == set(registry.GROUPS)
    assert list(new_plugin._KINDS) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written(kind, tmp_path, capsys):
    assert run("my-method", "--kind", kind, "--out", tmp_path) == 0
    folder = tmp_path / "diffsegkit-my-method"
    printed = capsys.readouterr().out
    assert KINDS[kind] in printed
    texts = text_of(folder)
    assert set(texts) == {
        "pyproject.toml",
        "README.md",
        "diffsegkit_my_method/__init__.py",
        "diffsegkit_my_method/my_method.py",
        "tests/test_my_method.py",
    }
    assert not any(re.search(r"@\w+@", text) for text in texts.values())
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    [group] = project["entry-points"].values()
    assert list(group) == [KINDS[kind]]
    assert list(tmp_path.iterdir()) == [folder]
    for name, text in texts.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
            assert max(map(len, text.splitlines())) <= 100
    # "In twenty lines": what a component's author writes beside blank lines and the docstrings.
    component = texts["diffsegkit_my_method/my_method.py"]
    code = re.sub(r'""".*?"""', "", component, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize(
    "kind", ["merger", *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS if k != "merger")]
)
def test_it_installs_is_found_and_passes_its_test(kind, tmp_path):
    assert run("my-method", "--kind", kind, "--out", tmp_path) == 0
    folder, site = tmp_path / "diffsegkit-my-method", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", "--target", site, folder]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    options = {"capture_output": True, "text": True, "env": environment, "cwd": tmp_path}
    plural = new_plugin._KINDS[kind].plural
    listed = subprocess.run(
        [sys.executable, "-m", "diffsegkit", "list", plural, KINDS[kind], "--check"], **options
    )
    assert listed.returncode == 0, listed.stdout
    assert f"ok      {KINDS[kind]}" in listed.stdout
    assert "diffsegkit-my-method" in listed.stdout
    used_as_its_readme_says(folder, options)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder], **options
    )
    assert tested.returncode == 0, tested.stdout


def test_the_template_of_the_repository_is_what_is_written():
    values = new_plugin._values("template", "merger")
    assert text_of(ROOT / "plugins" / "template") == new_plugin.plugin_files(values, "merger")


@pytest.mark.parametrize(
    ("name", "component", "package"),
    [
        ("Two-Halves", "TwoHalvesMerger", "diffsegkit_two_halves"),
        ("diffsegkit-halves", "HalvesMerger", "diffsegkit_halves"),
        ("halves_merger", "HalvesMerger", "diffsegkit_halves_merger"),
        ("x2", "X2Merger", "diffsegkit_x2"),
    ],
)
def test_names(name, component, package, tmp_path, capsys):
    assert run(name, "--out", tmp_path) == 0
    assert component in capsys.readouterr().out
    assert [path.parent.name for path in tmp_path.rglob("__init__.py")] == [package]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Expected a name for the plugin: diffsegkit new-plugin NAME"),
        (["2x"], "beginning with a letter, such as my-method, but got '2x'"),
        (["my method"], "but got 'my method'"),
        (["-".join(["a", "", "b"])], "but got 'a--b'"),
        (["class"], "no word of Python's, but got 'class'"),
        (["../x"], "but got '../x'"),
        (["x", "--kind", "mergr"], "but got 'mergr'; did you mean 'merger'?"),
        (["iterative-kl"], "There is a merger called 'IterativeKLMerger' already, of diffsegkit"),
        (["x", "--knd", "merger"], "There is no option --knd"),
        # What would be `class Merger(Merger)`.
        (["merger"], "The merger would be called 'Merger', as a class of diffsegkit's own is"),
        (["refining-assigner", "--kind", "assigner"], "would be called 'RefiningAssigner'"),
        (["image-segmenter", "--kind", "segmenter"], "would be called 'ImageSegmenter'"),
        (["x", "--out", ""], "Expected --out to be a folder, but got no name"),
    ],
)
def test_wrong_usage(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "diffsegkit-mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert run("mine", "--out", tmp_path) == 2
    assert "not to exist, or to be an empty folder" in capsys.readouterr().err
    assert text_of(tmp_path) == {"diffsegkit-mine/notes.txt": "mine"}
    assert run("new", "--out", folder / "notes.txt") == 2
    assert "notes.txt' is a file" in capsys.readouterr().err
    (folder / "notes.txt").unlink()
    assert run("mine", "--out", tmp_path) == 0
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    install(site, "diffsegkit_other", "", [])
    assert run("other", "--out", tmp_path / "more") == 2
    assert "diffsegkit-other is installed already" in capsys.readouterr().err


@pytest.mark.parametrize("out", [".", "two words", "it's"])
def test_the_commands_that_are_printed_name_the_folder(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("mine", "--out", out) == 0
    install, listing, test = map(shlex.split, capsys.readouterr().out.splitlines()[1:4])
    assert install[:3] == ["pip", "install", "-e"]
    # Not the name of a distribution, which pip would look for elsewhere.
    assert install[3].startswith("./")
    assert Path(install[3].removesuffix("[test]"), "pyproject.toml").is_file()
    assert listing == ["diffsegkit", "list", "mergers"]
    assert test[:3] == ["python", "-m", "pytest"]
    assert Path(test[3], "tests").is_dir()


def test_nothing_half_written_is_left(tmp_path, capsys, monkeypatch):
    written = []

    def full(self, text, **options):
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(self))
        self.write_bytes(text.encode())

    monkeypatch.setattr(Path, "write_text", full)
    assert run("mine", "--out", tmp_path) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
