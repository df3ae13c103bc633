"""Whether a folder holds all that is needed of a model, whole."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffsegkit.errors import WeightsError
from diffsegkit.weights.content import check_file, read_header, read_json
from diffsegkit.weights.files import ComponentFiles, ModelFiles
from diffsegkit.weights.listing import MODEL_INDEX, Plan, plan_files, variant_of
from diffsegkit.weights.shards import is_index, shards_of, weight_map

_MANY = 6  # names in a sentence


def check_folder(folder: str | Path, files: ModelFiles) -> None:
    """Look whether a folder holds all that is needed, whole; of weights the headers are read.

    Args:
        folder: The model's folder.
        files: What is needed.

    Raises:
        WeightsError: If a file is missing, damaged, or of another kind than its name says.
    """
    folder = Path(folder)
    check_model(folder, files, f"The model in {str(folder)!r}", _remedy(folder))


def check_model(folder: Path, files: ModelFiles, model: str, remedy: str) -> None:
    """Like :func:`check_folder`, in other words.

    Args:
        folder: The model's folder.
        files: What is needed.
        model: How a sentence about what is missing begins.
        remedy: How it ends.

    Raises:
        WeightsError: If a file is missing, damaged, or of another kind than its name says.
    """
    listing = list_folder(folder, files)
    plan = plan_files(files, listing, read_model_index(folder, files, listing))
    refuse_incomplete(plan, model, remedy)
    for name in plan.names:
        check_file(folder / name)
    for component, name in plan.weights:
        _check_weights(folder / name, component)


def find_variant(folder: str | Path, component: ComponentFiles, variant: str | None) -> str | None:
    """The variant to load a component in: the one asked for, or None where it has no such file.

    Args:
        folder: The model's folder.
        component: One that has weights.
        variant: What is asked for.
    """
    inside = Path(folder) / component.folder
    return variant_of(component, {path.name for path in inside.iterdir()}, variant)


def files_in(folder: str | Path, files: ModelFiles) -> list[str]:
    """The files that are needed of a complete model, shards included.

    Args:
        folder: The model's folder.
        files: What is needed.

    Returns:
        Names relative to the folder.

    Raises:
        WeightsError: If an index is damaged.
    """
    folder = Path(folder)
    listing = list_folder(folder, files)
    plan = plan_files(files, listing, read_model_index(folder, files, listing))
    names = list(plan.names)
    for _, name in plan.weights:
        names += [name, *(shards_of(folder, name) if is_index(name) else [])]
    return names


def list_folder(folder: Path, files: ModelFiles) -> set[str]:
    """The files in a model's folder and in those of its components.

    Args:
        folder: The model's folder.
        files: What is needed.

    Raises:
        WeightsError: If there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"There is no folder {str(folder)!r}."
            if not folder.exists()
            else f"Expected a model's folder, but {str(folder)!r} is a file."
        )
    found = set(_entries(folder))
    for component in files.components:
        if component.folder and (folder / component.folder).is_dir():
            inside = _entries(folder / component.folder)
            found |= {f"{component.folder}/{name}" for name in inside}
    return found


def read_model_index(
    folder: Path, files: ModelFiles, listing: set[str]
) -> Mapping[str, Any] | None:
    """What tells whether a model has its optional components.

    Args:
        folder: The model's folder.
        files: What is needed.
        listing: The files that there are.

    Raises:
        WeightsError: If it is damaged.
    """
    if MODEL_INDEX not in listing or not any(each.optional for each in files.components):
        return None
    content = read_json(folder / MODEL_INDEX)
    if not isinstance(content, dict):
        raise WeightsError(
            f"Expected {str(folder / MODEL_INDEX)!r} to hold the model's components by name, but "
            f"it holds a {type(content).__name__}; copy or download it again."
        )
    return content


def refuse_incomplete(plan: Plan, model: str, remedy: str) -> None:
    """Raise what keeps a model from being loaded.

    Args:
        plan: What is needed, and what is not there.
        model: How the sentence begins.
        remedy: How it ends, where files are missing.

    Raises:
        WeightsError: If anything is missing or wrong.
    """
    if plan.problems:
        raise WeightsError(f"{model} {plan.problems[0]}.")
    if plan.missing:
        raise WeightsError(f"{model} lacks {listed(plan.missing)}; {remedy}.")


def listed(names: tuple[str, ...]) -> str:
    """Names as a sentence has them.

    Args:
        names: One or more.

    Example:
        >>> listed(("a", "b", "c"))
        'a, b and c'
    """
    if len(names) > _MANY:
        names = (*names[: _MANY - 1], f"{len(names) - _MANY + 1} more")
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _remedy(folder: Path) -> str:
    if (folder / "snapshots").is_dir():
        return "it is a folder of the hub's cache, give the one below its 'snapshots'"
    return "copy what is missing there, or download the model again"


def _entries(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from [entry.name for entry in entries if not entry.is_dir()]
    except OSError as error:
        raise WeightsError(
            f"The folder {str(folder)!r} cannot be read ({error.strerror}); check its permissions."
        ) from error


def _check_weights(path: Path, component: ComponentFiles) -> None:
    """Whether weights are whole, and hold the tensors that they ought to."""
    if is_index(path.name):
        tensors = weight_map(path)
        for shard in dict.fromkeys(tensors.values()):
            there = _shard_header(path, shard)
            lost = [name for name, place in tensors.items() if place == shard and name not in there]
            if lost:
                raise WeightsError(
                    f"{str(path.with_name(shard))!r} lacks the tensor {lost[0]!r}, which "
                    f"{path.name!r} expects there: they are of different models; copy or download "
                    "both again."
                )
    else:
        tensors = read_header(path)
    for wanted in component.tensors:
        if not any(name.endswith(wanted) for name in tensors):
            raise WeightsError(
                f"{str(path)!r} holds the weights of something else: a tensor {wanted!r} was "
                f"expected, but there are {len(tensors)} others; copy or download the right file."
            )


def _shard_header(index: Path, shard: str) -> dict[str, Any]:
    path = index.with_name(shard)
    if not path.exists() and not path.is_symlink():
        raise WeightsError(
            f"{str(path)!r} is missing, which {index.name!r} lists; copy or download it again."
        )
    return read_header(path)
