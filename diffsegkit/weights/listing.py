"""Which of a model's files are needed: names alone, in a folder or on the hub."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from diffsegkit.weights.files import ComponentFiles, ModelFiles

MODEL_INDEX = "model_index.json"
"""Where diffusers lists the components of a model."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_OTHER_FORMATS = (".bin", ".ckpt", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf")


@dataclass(frozen=True)
class Plan:
    """What is needed of a model, and what is not there.

    Args:
        names: Of the files beside the weights, relative to the model.
        weights: Each component that has weights, and the name of their file or index.
        missing: Names that the listing lacks.
        problems: What else is wrong, each the end of a sentence that begins with the model.
    """

    names: tuple[str, ...]
    weights: tuple[tuple[ComponentFiles, str], ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]


def plan_files(
    files: ModelFiles, listing: Collection[str], model_index: Mapping[str, Any] | None
) -> Plan:
    """Choose the needed files.

    Args:
        files: The model, and what is needed of it.
        listing: Names of files, relative to the model, with ``/``.
        model_index: The content of ``model_index.json``, if there is one.
    """
    needed = [
        component for component in files.components if _belongs(component, listing, model_index)
    ]
    variant, problems = _usable_variant(files.variant, needed, listing)
    names: list[str] = []
    weights: list[tuple[ComponentFiles, str]] = []
    missing: list[str] = []
    for component in needed:
        if component.folder in listing:
            problems.append(
                f"has a file in place of the folder {component.folder!r}: expected the component's "
                "files in it"
            )
            continue
        here = names_in(component.folder, listing)
        for required in component.required:
            alternatives = (required,) if isinstance(required, str) else required
            found = [name for name in alternatives if name in here]
            if found:
                names.append(_join(component.folder, found[0]))
            else:
                missing.append(" or ".join(_join(component.folder, name) for name in alternatives))
        names += [_join(component.folder, name) for name in component.wanted if name in here]
        if component.weights is None:
            continue
        if file := find_weights(component, here, variant):
            weights.append((component, _join(component.folder, file)))
        elif problem := _instead(component, here):
            problems.append(problem)
        else:
            missing.append(_join(component.folder, f"{component.weights}.safetensors"))
    return Plan(
        names=tuple(dict.fromkeys(names)),
        weights=tuple(weights),
        missing=tuple(dict.fromkeys(missing)),
        problems=tuple(problems),
    )


def names_in(folder: str, listing: Collection[str]) -> set[str]:
    """The files of one folder.

    Args:
        folder: Relative to the model; ``""`` for the model's own.
        listing: Names of files, relative to the model.

    Example:
        >>> names_in("unet", ["unet/config.json", "unet/old/config.json", "README.md"])
        {'config.json'}
    """
    prefix = f"{folder}/" if folder else ""
    rest = (name.removeprefix(prefix) for name in listing if name.startswith(prefix))
    return {name for name in rest if "/" not in name}


def find_weights(
    component: ComponentFiles, names: Collection[str], variant: str | None
) -> str | None:
    """The file that holds a component's weights, or the index of its shards.

    Args:
        component: One that has weights.
        names: The files in its folder.
        variant: Which to take; the plain one where there is no such.

    Example:
        >>> find_weights(ComponentFiles("", "model"), {"model.safetensors"}, "fp16")
        'model.safetensors'
    """
    found = _variants(component, names)
    return found.get(variant) or found.get(None)


def variant_of(
    component: ComponentFiles, names: Collection[str], variant: str | None
) -> str | None:
    """The variant that is found where one is asked for: that, or None for the plain file.

    Args:
        component: One that has weights.
        names: The files in its folder.
        variant: What is asked for.
    """
    return variant if variant in _variants(component, names) else None


def is_plain_name(name: object) -> bool:
    """Whether a name that somebody else wrote stays in its folder.

    Args:
        name: Such as that of a shard.

    Example:
        >>> is_plain_name("model-00001-of-00002.safetensors"), is_plain_name("../secret")
        (True, False)
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(character in name for character in "/\\:\0")
    )


def is_inside(name: str) -> bool:
    """Whether a name with folders in it stays in the model's folder.

    Args:
        name: As the hub lists it.
    """
    parts = name.split("/")
    return all(is_plain_name(part) for part in parts) and not PurePosixPath(name).is_absolute()


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _belongs(
    component: ComponentFiles, listing: Collection[str], model_index: Mapping[str, Any] | None
) -> bool:
    """Whether a model has a component, or ought to."""
    if not component.optional:
        return True
    if model_index is not None:
        entry = model_index.get(component.folder)
        # What a model goes without is written as [null, null].
        return bool(entry) and entry != [None, None]
    return bool(names_in(component.folder, listing))


def _variants(component: ComponentFiles, names: Collection[str]) -> dict[str | None, str]:
    """Where the weights are, by variant; None is the plain one."""
    stem = re.escape(component.weights or "")
    whole = rf"{stem}(?:\.(?P<variant>[^.]+))?\.safetensors"
    # The second is what diffusers once wrote.
    index = rf"{stem}\.safetensors\.index(?:\.(?P<variant>[^.]+))?\.json"
    old_index = rf"{stem}\.safetensors\.(?P<variant>[^.]+)\.index\.json"
    # The one that wins comes last: diffusers looks for an index first, transformers for a file.
    patterns = [old_index, index, whole]
    if component.weights == "diffusion_pytorch_model":
        patterns = [whole, old_index, index]
    found: dict[str | None, str] = {}
    for pattern in patterns:
        for name in names:
            match = re.fullmatch(pattern, name)
            if match and not _SHARD.search(match["variant"] or ""):
                found[match["variant"]] = name
    return found


def _usable_variant(
    variant: str | None, components: list[ComponentFiles], listing: Collection[str]
) -> tuple[str | None, list[str]]:
    """A variant that no component has is a mistake, and not a wish for the plain one."""
    weighty = [component for component in components if component.weights is not None]
    found = {
        name
        for component in weighty
        for name in _variants(component, names_in(component.folder, listing))
    }
    if variant is None or variant in found or not found:
        return variant, []
    there = [repr(name) for name in sorted(name for name in found if name)]
    listed = " and ".join([*(["the plain one (null)"] if None in found else []), *there])
    problem = f"has no variant {variant!r}, only {listed}: choose with --source.variant"
    return None, [problem] if None in found else []


def _instead(component: ComponentFiles, names: set[str]) -> str:
    """What there is in place of the weights."""
    expected = _join(component.folder, f"{component.weights}.safetensors")
    variants = sorted(name for name in _variants(component, names) if name)
    if variants:
        each = " or ".join(f"--source.variant {variant}" for variant in variants)
        return f"has {expected} only as the variant {_listed(variants)}: give {each}"
    if others := sorted(name for name in names if name.endswith(_OTHER_FORMATS)):
        return (
            f"has {_join(component.folder, others[0])} where {expected} was expected: only "
            "safetensors files are loaded, because such a file can run code; convert it with "
            "save_pretrained(..., safe_serialization=True), or on "
            "https://huggingface.co/spaces/safetensors/convert"
        )
    if others := sorted(name for name in names if name.endswith(".safetensors")):
        return (
            f"has {_join(component.folder, others[0])} where {expected}, or its index, was "
            "expected: copy the missing file there, or rename this one if it is the same"
        )
    return ""


def _listed(names: list[str]) -> str:
    return " and ".join(map(repr, names))
