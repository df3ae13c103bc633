"""``diffsegkit doctor``: what is here, and what can run."""

import os
import platform

import torch

from diffsegkit import registry
from diffsegkit.cli.check import check
from diffsegkit.cli.explain import explain
from diffsegkit.cli.help import HelpFormatter, add_debug
from diffsegkit.cli.needed import needed_files
from diffsegkit.configuration import load_preset
from diffsegkit.environment import versions
from diffsegkit.errors import ComponentError
from diffsegkit.kernels.backend import interpreting, triton_problem
from diffsegkit.parsing import SentenceParser
from diffsegkit.presets import Preset
from diffsegkit.weights import model_state
from diffsegkit.weights.cache import cache_folder
from diffsegkit.weights.local import local_folder
from diffsegkit.weights.size import readable_size


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
        "triton kernels": _triton(),
        "presets": _presets(),
        "cache of models": [_cache()],
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


def _triton() -> list[str]:
    """A line per device: whether Triton's kernels run there, or why PyTorch's do."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    lines = []
    for name in names:
        problem = triton_problem(torch.device(name))
        if problem is None and interpreting():
            problem = "TRITON_INTERPRET is set, and the interpreter is for tests."
        lines.append(f"{name}: " + ("used" if problem is None else f"PyTorch instead: {problem}"))
    return lines


def _presets() -> list[str]:
    """A line per preset: ready, or what it lacks or gets wrong."""
    lines = []
    for component in registry.find_components("presets"):
        problem, weights = check(component), ""
        try:
            preset = load_preset(component.name)
            weights = _weights(component.name, preset)
        except Exception as error:  # noqa: BLE001 - a plugin's preset may hold anything
            problem = problem or explain(error)
        if problem is not None:
            lines.append(f"{component.name}: cannot run. {problem} {weights}")
        else:
            lines.append(f"{component.name}: {weights or 'ready.'} {preset.summary}")
    return list(dict.fromkeys(lines))  # two with one name have one sentence


def _weights(name: str, preset: Preset) -> str:
    """What there is of a preset's weights; empty if it needs none."""
    files = None if preset.source is None else needed_files(preset.source)
    if files is None:
        return ""
    state = model_state(files)
    if state.complete:
        return f"ready; its weights are complete ({readable_size(state.size)})."
    if state.folder.is_file() or local_folder(files.model) is not None:
        return f"its weights cannot be loaded. {state.problem}"
    if state.size == 0:
        return f"its weights are not here yet: `diffsegkit download {name}`."
    return (
        f"its weights are incomplete, with {readable_size(state.size)} here: `diffsegkit download "
        f"{name}` goes on. {state.problem}"
    )


def _cache() -> str:
    try:
        folder = cache_folder()
    except ComponentError:
        return "none; huggingface_hub is not installed"
    return f"{folder} (HF_HOME moves it)"


def _broken_components() -> list[str]:
    components = registry.find_components()
    found = (registry.check(component) for component in components)
    # Two with one name have one sentence.
    return list(dict.fromkeys(problem for problem in found if problem is not None))
