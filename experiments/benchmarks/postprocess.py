"""Aggregation, merging and assignment of one image, beside a plain reading of the original.

Every contender runs in a process of its own, in turn, several rounds, on the same inputs: the
four attention maps of Stable Diffusion's shapes at 512 pixels. Ratios come first, because these
depend less on the machine than milliseconds do.

    python experiments/benchmarks/postprocess.py [--rounds 5] [--repeats 5]
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional

from diffsegkit import AttentionMap, SourceOutput, __version__
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.mergers import IterativeKLMerger

SIZES = (64, 32, 16, 8)


def inputs():
    """``{size: (size^2, size^2)}`` attention with eight regions, made without large temporaries."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(8, 2, generator=generator)
    maps = {}
    for size in SIZES:
        axis = (torch.arange(size) + 0.5) / size
        places = torch.cartesian_prod(axis, axis)
        region = torch.cdist(places, centres).argmin(1)
        logits = torch.randn(size**2, size**2, generator=generator)
        for query, row in enumerate(logits):
            row.add_((region == region[query]), alpha=3.0)
            row.copy_(torch.softmax(row, 0))
        maps[size] = logits
    return maps


def diffsegkit(maps):
    """This package's default parts."""
    attention = [AttentionMap(probs[None], (size, size)) for size, probs in maps.items()]
    aggregated = ResolutionAggregator()(SourceOutput(attention))
    proposals = IterativeKLMerger()(aggregated)
    return ArgmaxAssigner()(proposals, (512, 512))


def plain(maps):
    """The original's steps in the obvious PyTorch, with the distance as matrix products."""
    total = torch.zeros(4096, 4096)
    for size, probs in maps.items():
        keys = functional.interpolate(
            probs.reshape(1, size**2, size, size), size=(64, 64), mode="bilinear"
        )[0]
        keys = keys / keys.sum((1, 2), keepdim=True)
        queries = keys.reshape(size, size, 64, 64)
        repeat = 64 // size
        queries = queries.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)
        total += queries.reshape(4096, 4096) * (size / sum(SIZES))
    axis = torch.arange(1, 62, 4)
    proposals = total[(axis[:, None] * 64 + axis).flatten()]
    close = distance(proposals, total) < 1.1
    proposals = close.float() @ total / close.sum(1, keepdim=True)
    for _ in range(2):
        close = distance(proposals, proposals) < 1.1
        taken, merged = set(), []
        for index, row in enumerate(close):
            if index not in taken:
                taken.update(row.nonzero().flatten().tolist())
                merged.append(proposals[row].mean(0))
        proposals = torch.stack(merged)
    upsampled = functional.interpolate(
        proposals.reshape(1, -1, 64, 64), size=(512, 512), mode="bilinear"
    )
    return upsampled.argmax(1)


def distance(x, y):
    """Half the sum of both KL divergences between all rows, as matrix products."""
    log_x, log_y = x.log(), y.log()
    entropies = (x * log_x).sum(1)[:, None] + (y * log_y).sum(1)
    return (entropies - x @ log_y.T - log_x @ y.T) / 2


def products(maps):
    """The floor: the three products of 256 x 4096 x 4096 that round 0 cannot do without."""
    maps = maps[64]
    anchors = maps[::16].contiguous()
    first, second = anchors @ maps.T, anchors @ maps.T
    return (first + second) @ maps


CONTENDERS = {"diffsegkit": diffsegkit, "plain PyTorch": plain, "bare products": products}


def measure(name, repeats):
    """Milliseconds of each repeat, and MiB beyond the inputs, in this process."""
    maps = inputs()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    milliseconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        CONTENDERS[name](maps)
        milliseconds.append((time.perf_counter() - start) * 1000)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"ms": milliseconds, "mib": (after - before) / 1024}))


def main():
    """Run every contender in turn and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes per contender")
    parser.add_argument("--repeats", type=int, default=5, help="runs per process")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, options.repeats)
        return
    rows = {name: {"ms": [], "mib": []} for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, row in rows.items():
            command = [sys.executable, __file__, "--only", name, "--repeats", str(options.repeats)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            result = json.loads(out)
            row["ms"] += result["ms"][1:]  # the first warms up
            row["mib"].append(result["mib"])
    report(rows)


def report(rows):
    """Print ratios of the medians, then the table."""
    median = {name: statistics.median(row["ms"]) for name, row in rows.items()}
    for name in ("plain PyTorch", "bare products"):
        print(f"diffsegkit / {name}: {median['diffsegkit'] / median[name]:.2f} of the time")
    print(f"\n{'':16}{'p20 ms':>9}{'p50 ms':>9}{'p80 ms':>9}{'peak MiB beyond the inputs':>29}")
    for name, row in rows.items():
        fifths = statistics.quantiles(row["ms"], n=5)
        print(
            f"{name:16}{fifths[0]:9.0f}{median[name]:9.0f}{fifths[3]:9.0f}{max(row['mib']):29.0f}"
        )
    print(
        f"\n{platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {torch.__version__}, diffsegkit {__version__}"
    )


if __name__ == "__main__":
    main()
