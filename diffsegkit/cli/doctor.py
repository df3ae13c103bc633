"""``diffsegkit doctor``: what is here, and what can run."""

import os
import platform
from importlib.util import find_spec

import torch

from diffsegkit import registry
from diffsegkit.cli.check import check
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.environment import versions
from diffsegkit.parsing import SentenceParser


def run(args: list[str]) -> int:
    """Report on the installation.

    Args:
        args: The command's own arguments.

    Returns:
        0, or 1 if an installed component is broken.
    """
    parser = SentenceParser(
        prog="diffsegkit doctor",
        usage="diffsegkit doctor",
        description="Show versions, devices, which presets can run here, and what is broken.",
        formatter_class=HelpFormatter,
    )
    add_debug(parser)
    parser.parse_args(args)
    broken = _broken_components()
    sections = {
        "versions": [f"{name} {number}" for name, number in versions().items()],
        "devices": _devices(),
        "triton": [_triton()],
        "presets": _presets(),
        "broken components": broken or ["none"],
    }
    for title, lines in sections.items():
        print(title, *(f"  {' '.join(line.split())}" for line in lines), sep="\n")  # noqa: T201
    return 1 if broken else 0


def _devices() -> list[str]:
    lines = [f"cpu: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gibibytes = properties.total_memory / 2**30
        lines.append(f"cuda:{index}: {properties.name}, {gibibytes:.0f} GiB")
    if not torch.cuda.is_available():
        lines.append("cuda: none")
    if torch.backends.mps.is_available():
        lines.append("mps: available")
    return lines


def _triton() -> str:
    if find_spec("triton") is None:
        return "not installed; the PyTorch kernels are used"
    if not torch.cuda.is_available():
        return "installed, but there is no CUDA device; the PyTorch kernels are used"
    return "installed; this version of diffsegkit has PyTorch kernels only"


def _presets() -> list[str]:
    """A line per preset: ready, or what it lacks or gets wrong."""
    lines = []
    for component in registry.find_components("presets"):
        problem = check(component)
        if problem is None:
            summary = registry.load("presets", component.name).summary
            lines.append(f"{component.name}: ready. {summary}")
        else:
            lines.append(f"{component.name}: cannot run. {problem}")
    return list(dict.fromkeys(lines))  # two with one name have one sentence


def _broken_components() -> list[str]:
    components = registry.find_components()
    found = (registry.check(component) for component in components)
    # Two with one name have one sentence.
    return list(dict.fromkeys(problem for problem in found if problem is not None))
