"""How time and memory grow with tokens, anchors and images: a picture of the case `scaling`.

    diffsegkit bench scaling --out results.csv
    python experiments/benchmarks/plot.py results.csv [--out docs/images/scaling.png]

Prints by which power time and memory grow towards the large end, too.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

PAPERS = {"tokens": 4096, "anchors": 256, "images": 1}
QUANTITIES = {"p50_ms": "time, ms", "peak_mib": "memory beyond the inputs, MiB"}
_LAST = 3  # points from which the power is taken


def read_points(path):
    """``{(contender, device): [(size, row)]}`` of what was measured.

    Args:
        path: The CSV. Of what was measured more than once, the last row counts.
    """
    last = {}
    with Path(path).open(newline="") as file:
        for row in csv.DictReader(file):
            if row["case"] == "scaling" and row["status"] == "ok":
                last[row["contender"], row["device"], row["size"]] = row
    points = defaultdict(list)
    for (contender, device, size), row in last.items():
        numbers = {name: int(value) for name, value in (each.split("=") for each in size.split())}
        points[contender, device].append((numbers, row))
    return points


def along(points, axis, quantity):
    """Where only one number changes, and the others are the paper's: ``(x, y)``, rising.

    Args:
        points: Of one contender.
        axis: One of PAPERS.
        quantity: A column.
    """
    others = {name: value for name, value in PAPERS.items() if name != axis}
    chosen = sorted(
        (size[axis], float(row[quantity]))
        for size, row in points
        if row[quantity] and all(size[name] == value for name, value in others.items())
    )
    return np.array(chosen, dtype=float).reshape(-1, 2).T


def power(x, y):
    """The slope of the last points on logarithmic axes.

    Args:
        x: At least two values above 0.
        y: As many.
    """
    return float(np.polyfit(np.log(x[-_LAST:]), np.log(y[-_LAST:]), 1)[0])


def draw(points, path):
    """A column per number, time above memory; both axes logarithmic.

    Args:
        points: From read_points().
        path: The picture.
    """
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.5), sharex="col", constrained_layout=True)
    several = len({device for _, device in points}) > 1
    for column, axis in enumerate(PAPERS):
        for row, (quantity, label) in enumerate(QUANTITIES.items()):
            panel = axes[row, column]
            for (contender, device), own in points.items():
                x, y = along(own, axis, quantity)
                name = f"{contender}, {device}" if several else contender
                [line] = panel.plot(x, y, "o-", label=name)
                if quantity == "p50_ms" and len(x):
                    low, high = along(own, axis, "p20_ms")[1], along(own, axis, "p80_ms")[1]
                    panel.fill_between(x, low, high, color=line.get_color(), alpha=0.2)
            _label_axes(
                panel, own=sorted({size[axis] for own in points.values() for size, _ in own})
            )
            if column == 0:
                panel.set_ylabel(label)
            if row == 1:
                panel.set_xlabel(axis)
    axes[0, 0].legend()
    devices = ", ".join(dict.fromkeys(device for _, device in points))
    figure.suptitle(f"Aggregation, merging and assignment on {devices}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _label_axes(panel, own):
    """Logarithmic, with the measured numbers below and plain ones at the side.

    Args:
        panel: Of the figure.
        own: What was measured along x.
    """
    panel.set(xscale="log", yscale="log")
    panel.xaxis.set_major_locator(FixedLocator(own))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.tick_params(axis="x", labelsize=7)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter("{x:g}")
    panel.grid(True, alpha=0.3)


def powers(points):
    """A line per contender, number and quantity.

    Args:
        points: From read_points().
    """
    lines = []
    for (contender, device), own in points.items():
        for quantity, label in QUANTITIES.items():
            for axis in PAPERS:
                x, y = along(own, axis, quantity)
                if len(x) > 1 and (y > 0).all():
                    lines.append(
                        f"{contender} on {device}: {label.split(',')[0]} grows as {axis} to the "
                        f"{power(x, y):.2f}"
                    )
    return lines


def main():
    """Draw, and print the powers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="a CSV of `diffsegkit bench scaling --out`")
    parser.add_argument("--out", type=Path, default=Path("docs/images/scaling.png"))
    options = parser.parse_args()
    points = read_points(options.results)
    if not points:
        sys.exit(f"There is nothing of the case 'scaling' in {str(options.results)!r}.")
    draw(points, options.out)
    print(*powers(points), sep="\n")


if __name__ == "__main__":
    main()
