"""The page on components shows what the command writes, and its commands run."""

import re
import shlex
from pathlib import Path

from diffsegkit.cli import new_plugin
from diffsegkit.cli.main import main
from tests.plugins import forget

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "write_a_component.md").read_text()


def test_the_code_is_the_template_s():
    [shown] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    values = new_plugin._values("two-halves", "merger")
    files = new_plugin.plugin_files(values, "merger")
    assert shown == files["diffsegkit_two_halves/two_halves.py"]


def test_the_commands(tmp_path, monkeypatch, photo, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.jpg")
    lines = re.findall(r"^    (\S.*)$", TEXT.split("## The component")[0], re.MULTILINE)
    commands = [shlex.split(line) for line in lines]
    assert [words[0] for words in commands] == [
        "diffsegkit",
        "pip",
        "diffsegkit",
        "python",
        "diffsegkit",
    ]
    assert main(commands[0][1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in printed[1:4]] == lines[1:4]
    # Without installing it here, by its dotted path.
    monkeypatch.syspath_prepend(tmp_path / "diffsegkit-two-halves")
    path = "diffsegkit_two_halves.TwoHalvesMerger"
    line = [path if word == "TwoHalvesMerger" else word for word in commands[4][1:]]
    assert main(line) == 0
    assert (tmp_path / "segments" / "photo_overlay.png").is_file()
    forget("diffsegkit_two_halves", "diffsegkit_two_halves.two_halves")


def test_the_kinds_and_the_packages_are_there():
    for kind in new_plugin._KINDS:
        assert f"`{kind}`" in TEXT
    named = set(re.findall(r"`(\w+)` \(", TEXT.split("`plugins/` has")[1]))
    assert named == {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")} - {
        "template"
    }
