"""The picture of how time and memory grow."""

import csv
import sys

import pytest
from PIL import Image

from diffsegkit.bench.cases import load_case
from diffsegkit.bench.row import COLUMNS, describe_size
from experiments.benchmarks import plot


@pytest.fixture
def results(tmp_path):
    """Time as tokens^2 times anchors, memory as tokens times images."""
    path = tmp_path / "results.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for size in load_case("scaling").sizes(None):
            ms = size["tokens"] ** 2 * size["anchors"] * 1e-6
            row = {"case": "scaling", "status": "ok", "device": "cpu", "size": describe_size(size)}
            row |= {"peak_mib": size["tokens"] * size["images"] * 1e-2}
            row |= {"p20_ms": 0.9 * ms, "p50_ms": ms, "p80_ms": 1.2 * ms}
            writer.writerow({**row, "contender": "diffsegkit"})
            large = size["tokens"] > 10000
            gone = {"status": "out of memory", "p20_ms": "", "p50_ms": "", "p80_ms": ""}
            writer.writerow({**row, "contender": "plain PyTorch", **(gone if large else {})})
        writer.writerow({"case": "anchors", "size": "anchors=1 maps=1", "status": "ok"})
    return path


def test_points_and_powers(results):
    points = plot.read_points(results)
    own = points["diffsegkit", "cpu"]
    x, y = plot.along(own, "tokens", "p50_ms")
    assert x.tolist() == [256, 1024, 4096, 9216, 16384]
    assert plot.power(x, y) == pytest.approx(2)
    assert len(plot.along(points["plain PyTorch", "cpu"], "tokens", "p50_ms")[0]) == 4
    lines = plot.powers(points)
    assert "diffsegkit on cpu: time grows as tokens to the 2.00" in lines
    assert "diffsegkit on cpu: memory beyond the inputs grows as images to the 1.00" in lines


def test_the_picture(results, tmp_path, monkeypatch, capsys):
    out = tmp_path / "images" / "scaling.png"
    monkeypatch.setattr(sys, "argv", ["plot.py", str(results), "--out", str(out)])
    plot.main()
    assert "time grows as anchors to the 1.00" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.width > 800


def test_nothing_to_draw(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    path.write_text(",".join(COLUMNS) + "\n")
    monkeypatch.setattr(sys, "argv", ["plot.py", str(path)])
    with pytest.raises(SystemExit, match="nothing of the case 'scaling'"):
        plot.main()
