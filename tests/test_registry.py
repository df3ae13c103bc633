"""Components are found by name, lazily, and one broken plugin harms nobody."""

import sys
import warnings

import pytest

import diffsegkit
from diffsegkit import registry
from diffsegkit.errors import ComponentError
from diffsegkit.mergers import IterativeKLMerger
from tests.plugins import MERGER, forget, install


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget("whole", "rival", "broken", "wrong", "needy")


@pytest.fixture
def plugin(site):
    install(site, "whole", MERGER, [("mergers", "WholeImage = whole:WholeImage")])
    return site


def test_what_comes_with_the_package():
    assert diffsegkit.list_components("sources") == ["AffinitySource", "VisionTransformerSource"]
    assert diffsegkit.list_components("mergers") == ["IterativeKLMerger", "KMeansMerger"]
    assert diffsegkit.list_components("segmenters") == ["Felzenszwalb", "OneSegment", "SLIC"]
    assert diffsegkit.list_components("presets") == [
        "affinity", "diffseg", "diffseg-dinov2b", "diffseg-dinov2s", "diffseg-dinov3s",
    ]  # fmt: skip
    assert "ArgmaxAssigner" in diffsegkit.list_components()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["IterativeKLMerger", "KMeansMerger"]),
        ("kmeans", ["KMeansMerger"]),
        ("*KL*", ["IterativeKLMerger"]),
        ("?means*", ["KMeansMerger"]),
        ("KL*", []),
    ],
)
def test_patterns(pattern, names):
    assert diffsegkit.list_components("merger", pattern) == names


def test_a_plugin_is_listed_without_being_imported(plugin):
    assert "WholeImage" in diffsegkit.list_components("mergers")
    [component] = registry.find_components("mergers", "WholeImage")
    assert (component.distribution, component.version) == ("whole", "1.2")
    assert component.summary == "A plugin for tests."
    assert "whole" not in sys.modules
    assert registry.load("merger", "WholeImage").__name__ == "WholeImage"
    assert registry.check(component) is None


def test_dotted_paths_need_no_entry_point():
    for path in ("diffsegkit.mergers.IterativeKLMerger", "diffsegkit.mergers:IterativeKLMerger"):
        assert registry.load("mergers", path) is IterativeKLMerger


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(ComponentError, match="Did you mean 'KMeansMerger'.*Installed mergers: It"):
        registry.load("mergers", "kmeans_merger")
    with pytest.raises(ComponentError, match=r"no merger called 'Zzz'\. Installed"):
        registry.load("mergers", "Zzz")
    with pytest.raises(ComponentError, match="no kind of component called 'fusers'"):
        registry.load("fusers", "X")


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("def f(:", "SyntaxError"),
        ("", "has no attribute 'Broken'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_plugin_harms_only_who_asks_for_it(plugin, site, module, error):
    install(site, "broken", module, [("mergers", "Broken = broken:Broken")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diffsegkit.list_components("mergers") == [
            "Broken", "IterativeKLMerger", "KMeansMerger", "WholeImage",
        ]  # fmt: skip
        registry.load("mergers", "WholeImage")
    with pytest.raises(ComponentError, match="'Broken' cannot be imported.*broken 1.2") as raised:
        registry.load("mergers", "Broken")
    assert error in str(raised.value)
    [component] = registry.find_components("mergers", "Broken")
    assert error in registry.check(component)


def test_metadata_that_cannot_be_read_costs_a_warning(plugin, site):
    install(site, "broken", "", [("mergers", "Broken = no_colon")])
    assert "WholeImage" in diffsegkit.list_components("mergers")
    [component] = registry.find_components("mergers", "Broken")
    assert "cannot be imported from 'no_colon' (an entry point of broken 1.2)" in (
        registry.check(component)
    )
    (site / "broken-1.2.dist-info" / "METADATA").unlink()
    [component] = registry.find_components("mergers", "Broken")
    assert (component.version, component.summary) == ("?", "")
    (site / "broken-1.2.dist-info" / "entry_points.txt").write_bytes(
        b"[diffsegkit.mergers]\n\xff=x"
    )
    with pytest.warns(UserWarning, match="metadata of .*broken.*left out"):
        assert "WholeImage" in diffsegkit.list_components("mergers")


def test_two_plugins_with_one_name(plugin, site):
    install(site, "rival", MERGER, [("mergers", "WholeImage = rival:WholeImage")])
    with pytest.raises(ComponentError, match="taken by two mergers: .*whole.* and .*rival|rival.* and .*whole"):  # fmt: skip
        registry.load("mergers", "WholeImage")
    assert registry.load("mergers", "rival.WholeImage").__module__ == "rival"
    problems = [registry.check(each) for each in registry.find_components("mergers", "WholeImage")]
    assert len(problems) == 2
    assert all("taken by two" in problem for problem in problems)


def test_the_first_of_two_copies_counts(plugin, tmp_path_factory, monkeypatch):
    """As on Python's own path: an older copy behind it is no second plugin."""
    behind = tmp_path_factory.mktemp("behind")
    install(behind, "whole", MERGER, [("mergers", "WholeImage = whole:WholeImage")], version="0.1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(behind)])
    assert [c.version for c in registry.find_components("mergers", "WholeImage")] == ["1.2"]


def test_a_component_must_be_of_its_kind(site):
    install(site, "wrong", "Wrong = 3", [("mergers", "Wrong = wrong:Wrong")])
    with pytest.raises(ComponentError, match="expected a subclass of Merger, but got 3"):
        registry.load("mergers", "Wrong")
    with pytest.raises(ComponentError, match="not one of the mergers"):
        registry.load("mergers", "diffsegkit.assigners.ArgmaxAssigner")
    with pytest.raises(ComponentError, match="expected an instance of Preset"):
        registry.load("presets", "diffsegkit.presets.Preset")
