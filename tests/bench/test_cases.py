"""Every case, from inputs to rows."""

import pkgutil
from math import inf

import pytest
import torch

from diffsegkit.bench import cases as package
from diffsegkit.bench import plain
from diffsegkit.bench.attention import region_attention, sides_of
from diffsegkit.bench.case import Contender, Setting
from diffsegkit.bench.cases import CASES, LONG, choose_cases, load_case
from diffsegkit.bench.measure import measure
from diffsegkit.bench.report import report
from diffsegkit.bench.row import COLUMNS
from diffsegkit.bench.suite import check_requirements, run_case
from diffsegkit.errors import ComponentError, UsageError
from tests.bench.conftest import SIZES, change_case

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def rows_of(name, **options):
    return [
        row
        for rows in run_case(name, CPU, rounds=2, repeats=2, measure=measure, **options)
        for row in rows
    ]


def test_every_module_is_listed():
    found = {module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)}
    assert found == set(CASES)
    assert set(choose_cases([])) == set(CASES) - set(LONG)
    assert choose_cases(["anchors", "scaling", "anchors"]) == ["anchors", "scaling"]


@pytest.mark.parametrize("name", CASES)
def test_every_case(small, name):
    rows = rows_of(name)
    assert {row.size for row in rows} == {
        " ".join(f"{key}={value}" for key, value in size.items()) for size in SIZES[name]
    }
    assert rows[0].role == "ours"
    for row in rows:
        assert tuple(row.cells()) == COLUMNS
        assert (row.status, row.note) == ("ok", "")
        assert row.repeats == 4
        assert 0 < row.p20_ms <= row.p50_ms <= row.p80_ms
        assert row.peak_mib is not None
        assert row.torch == torch.__version__
        if row.role == "baseline":
            assert row.difference <= row.tolerance
        if row.role in ("floor", "part"):
            assert row.difference is None
    lines = report(rows[:2])
    assert lines[1].startswith("  diffsegkit / ")
    assert "of the time" in lines[1]


@pytest.mark.parametrize("name", CASES)
def test_results_and_their_comparison(small, name, tmp_path):
    """What is compared on a GPU, here on the CPU: some contenders are there only."""
    case = load_case(name)
    if case.share is not None:
        case.share(tmp_path)
    setting = Setting(case.sizes(CPU)[0], CPU, tmp_path)
    ours = None
    for contender in case.contenders(GPU):
        with torch.no_grad():
            result = contender.run(contender.prepare(case.inputs(setting)))
        ours = result if ours is None else ours
        if contender.tolerance is not None:
            assert case.difference(ours, result) <= contender.tolerance
    largest = max(each.tolerance or 0 for each in case.contenders(GPU))
    wrong = ours.clone()
    wrong[0] = wrong[0].flip(-1) + 1
    assert case.difference(ours, wrong) > largest
    assert case.difference(ours, ours[:, :-1]) == inf


@pytest.mark.parametrize("name", CASES)
def test_the_real_sizes(name):
    """As large as Stable Diffusion's on a GPU; on a CPU the same or smaller."""
    case = load_case(name)
    assert case.sizes(CPU)
    assert [set(size) for size in case.sizes(GPU)] == [set(size) for size in case.sizes(CPU)]
    for size in case.sizes(GPU)[:1]:
        assert size.get("tokens", size.get("maps", 4096)) in (4096, 256)
    names = [contender.name for contender in case.contenders(GPU)]
    assert len(names) == len(set(names))
    assert {contender.role for contender in case.contenders(CPU)} >= {"ours", "baseline"}


def test_scaling_changes_one_number_at_a_time():
    sizes = load_case("scaling").sizes(CPU)
    assert len(sizes) == 5 + 4 + 4 - 2
    papers = {"tokens": 4096, "anchors": 256, "images": 1}
    assert all(sum(size[key] != papers[key] for key in papers) <= 1 for size in sizes)


def test_a_wrong_contender_is_not_timed(small, monkeypatch):
    right = load_case("anchors").contenders(CPU)
    added = Contender("wrong", "baseline", lambda xy: plain.distance(*xy) * 1.01, 1e-3)
    change_case(monkeypatch, "anchors", contenders=lambda _: [*right, added])
    rows = {row.contender: row for row in rows_of("anchors")}
    assert rows["wrong"].status == "differs"
    assert rows["wrong"].p50_ms is None
    assert rows["wrong"].difference > rows["wrong"].tolerance
    assert "from ours, where 0.001 is allowed" in rows["wrong"].note
    assert all(row.status == "ok" for name, row in rows.items() if name != "wrong")
    assert not any("/ wrong" in line for line in report(list(rows.values())))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_differs(small, monkeypatch, value):
    right = load_case("anchors").contenders(CPU)
    added = Contender("wrong", "baseline", lambda xy: plain.distance(*xy) + value, 1e-3)
    change_case(monkeypatch, "anchors", contenders=lambda _: [*right, added])
    assert rows_of("anchors")[-1].status == "differs"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (lambda _: torch.empty(2**60), "out of memory"),
        (lambda _: bytearray(2**62), "out of memory"),
        (lambda _: 1 / 0, "failed"),
    ],
)
def test_one_that_fails_stops_nobody_else(small, monkeypatch, error, status):
    right = load_case("anchors").contenders(CPU)
    added = Contender("large", "baseline", error, 1e-3)
    change_case(monkeypatch, "anchors", contenders=lambda _: [added, *right])
    rows = {row.contender: row for row in rows_of("anchors")}
    assert rows["large"].status == status
    assert rows["large"].note
    assert rows["large"].repeats == 0
    assert [row.status for row in rows.values()].count("ok") == len(right)
    assert any(f"{status}: " in line for line in report(list(rows.values())))


def test_contenders_take_turns(small):
    requests = []

    def note(request):
        requests.append(request)
        return measure(request)

    [rows] = run_case("anchors", CPU, rounds=3, repeats=1, measure=note)
    names = [row.contender for row in rows]
    assert [request.contender for request in requests] == names * 3
    # Ours is kept and the others are compared in the first round only.
    assert [bool(request.save) for request in requests] == [True] + [False] * (3 * len(names) - 1)
    compared = [bool(request.reference) for request in requests]
    assert compared == [False] + [True] * (len(names) - 1) + [False] * (2 * len(names))


def test_attention_is_alike_at_every_grid():
    maps = region_attention(sides_of(256), 2, CPU)
    assert [tuple(each.shape) for each in maps.values()] == [
        (2, 256, 256), (2, 64, 64), (2, 16, 16), (2, 4, 4),
    ]  # fmt: skip
    for probs in maps.values():
        torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:2]))
    assert not torch.equal(maps[16][0], maps[16][1])
    again = region_attention([16], 2, CPU)[16]
    assert torch.equal(again, maps[16])


def test_the_two_plain_distances_are_the_definition(generator):
    x, y = torch.rand(3, 5, generator=generator), torch.rand(4, 5, generator=generator)
    x, y = x / x.sum(1, keepdim=True), y / y.sum(1, keepdim=True)
    expected = [[float(((a - b) * (a.log() - b.log())).double().sum()) / 2 for b in y] for a in x]
    for distance in (plain.distance, plain.broadcast_distance):
        torch.testing.assert_close(
            distance(x, y).double(), torch.tensor(expected).double(), atol=1e-6, rtol=1e-5
        )


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setattr("diffsegkit.bench.suite.find_spec", lambda _: None)
    check_requirements(["anchors"])
    with pytest.raises(ComponentError, match=r"needs diffusers and transformers.*diffsegkit\[sd\]"):
        check_requirements(["anchors", "stable-diffusion"])


def test_an_unknown_case():
    with pytest.raises(UsageError, match="no case 'pairwise'; did you mean 'pairwise-kl'"):
        choose_cases(["anchors", "pairwise"])
