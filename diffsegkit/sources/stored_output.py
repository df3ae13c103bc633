"""What a source gave for one image, as bytes and back."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from diffsegkit.interfaces import (
    AttentionMap,
    MergingRound,
    Proposals,
    SourceOutput,
    TokenisedPrompt,
)
from diffsegkit.interfaces.half import from_half, to_half

FORMAT = 1
"""Of the bytes, and of how values are rounded; part of the key of whatever is stored."""


@dataclass(frozen=True, eq=False)
class StoredOutput:
    """One image's share of a :class:`~diffsegkit.SourceOutput`, its attention in float16.

    Args:
        layout: What the tensors are: ``attention`` has grid, name and count of each map,
            ``features`` and ``cross`` how many there are, ``thresholds`` those of the rounds of
            the proposals (None without proposals), ``image`` whether the source gave its own,
            ``prompt`` its text and the characters of each token.
        tensors: By name. Attention is ``(N, N)`` float16, times 2**15; everything else is as the
            source gave it.
    """

    layout: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def take_image(output: SourceOutput, index: int, image: Tensor) -> StoredOutput:
    """What is to be stored of one image.

    Args:
        output: What the source gave for a batch.
        index: Which image of it.
        image: That image as the source was given it, ``(3, H, W)``.

    Raises:
        ValueError: If a row of attention is no distribution.
    """
    tensors = {f"attention.{n}": _scaled(own, index) for n, own in enumerate(output.attention)}
    tensors |= {f"features.{n}": own[index].detach() for n, own in enumerate(output.features)}
    tensors |= {f"cross.{n}": own[index].detach() for n, own in enumerate(output.cross)}
    thresholds = None
    if output.proposals is not None:
        proposals = output.proposals[index]
        tensors["proposals"] = proposals.maps.detach()
        if proposals.scores is not None:
            tensors["scores"] = proposals.scores.detach()
        for n, merging_round in enumerate(proposals.rounds):
            tensors[f"members.{n}"] = merging_round.members
            tensors[f"seeds.{n}"] = merging_round.seeds
        thresholds = [float(merging_round.threshold) for merging_round in proposals.rounds]
    own_image = output.images is not None and not _equal(output.images[index], image)
    if output.images is not None and own_image:
        tensors["image"] = output.images[index].detach()
    layout = {
        "attention": [
            {"grid": list(own.grid), "name": own.name, "count": own.count}
            for own in output.attention
        ],
        "features": len(output.features),
        "cross": len(output.cross),
        "thresholds": thresholds,
        "image": own_image,
    }
    # Absent where there are none, as in files that were written before there were any.
    if "scores" in tensors:
        layout["scores"] = True
    if output.prompts is not None:
        prompt = output.prompts[index]
        layout["prompt"] = [prompt.text, *prompt.spans]
    return StoredOutput(layout, tensors)


def join_images(stored: Sequence[StoredOutput], images: Tensor) -> SourceOutput:
    """A batch again, as the source would have given it.

    Args:
        stored: One per image.
        images: What the source was given, ``(B, 3, H, W)``; the result is on its device.

    Returns:
        Attention in float32, its rows summing to 1; everything else as it was stored.

    Raises:
        ValueError: If the images have parts of different kinds or shapes.
    """
    forms = {_form(own) for own in stored}
    if len(forms) > 1:
        raise ValueError(
            "Expected the source to give parts of one form for all images of a batch, but got "
            f"{' and '.join(sorted(forms))}; use batches of one image."
        )
    layout, device = stored[0].layout, images.device

    def batch(name: str) -> Tensor:
        return torch.stack([own.tensors[name].to(device) for own in stored])

    return SourceOutput(
        attention=[
            AttentionMap(
                _unscaled([own.tensors[f"attention.{n}"] for own in stored], device),
                (own["grid"][0], own["grid"][1]),
                own["name"],
                own["count"],
            )
            for n, own in enumerate(layout["attention"])
        ],
        features=[batch(f"features.{n}") for n in range(layout["features"])],
        cross=[batch(f"cross.{n}") for n in range(layout["cross"])],
        proposals=None
        if layout["thresholds"] is None
        else [_proposals(own, device) for own in stored],
        images=torch.stack(
            [
                own.tensors["image"].to(device) if own.layout["image"] else image
                for own, image in zip(stored, images, strict=True)
            ]
        )
        if any(own.layout["image"] for own in stored)
        else images,
        prompts=[_prompt(own) for own in stored] if "prompt" in layout else None,
    )


def to_bytes(stored: StoredOutput, key: str, note: Mapping[str, Any]) -> bytes:
    """A safetensors file; whatever is not a tensor is JSON in its header.

    Args:
        stored: What to write.
        key: What it is the output of.
        note: What else the header says, for people.
    """
    # Slices of one batch share their memory, which safetensors would refuse.
    tensors = {name: own.cpu().clone().contiguous() for name, own in stored.tensors.items()}
    about = json.dumps({"format": FORMAT, "key": key, "layout": stored.layout, "note": note})
    metadata = {"diffsegkit": about, "crc32": _checksum(about, tensors)}
    data: bytes = save(tensors, metadata)
    return data


def from_bytes(data: bytes, key: str) -> StoredOutput:
    """What :func:`to_bytes` wrote; no code in it is run.

    Args:
        data: The file.
        key: What it must be the output of.

    Raises:
        ValueError: If it is anything else, or damaged.
    """
    try:
        tensors = load(data)
        metadata = _metadata(data)
        about = metadata["diffsegkit"]
        if metadata["crc32"] != _checksum(about, tensors):
            raise ValueError("its checksum is wrong")
        content = json.loads(about)
        if (content["format"], content["key"]) != (FORMAT, key):
            raise ValueError("it holds something else")
        stored = StoredOutput(content["layout"], tensors)
        _check(stored)
    except SafetensorError as error:
        raise ValueError(f"it is no whole safetensors file ({error})") from error
    except (KeyError, TypeError) as error:
        raise ValueError("it is no attention of diffsegkit") from error
    return stored


def _scaled(attention: AttentionMap, index: int) -> Tensor:
    """``(N, N)`` float16: the maps of one image, times 2**15."""
    scaled = to_half(attention.probs[index].detach())
    sums = scaled.sum(-1, dtype=torch.float32)
    if not bool(((sums > 0) & sums.isfinite()).all()):
        raise ValueError(
            f"Expected every row of the attention map {attention.name!r} to be a distribution, "
            "but one has NaN, infinity or nothing above 0, so it cannot be stored. Check the "
            "model's precision."
        )
    return scaled


def _unscaled(scaled: Sequence[Tensor], device: torch.device) -> Tensor:
    """``(B, N, N)`` float32, every row divided by its sum."""
    probs = torch.empty((len(scaled), *scaled[0].shape), dtype=torch.float32, device=device)
    # Image by image, so that the order of summation does not depend on the batch.
    for own, half in zip(probs, scaled, strict=True):
        from_half(half, out=own)
    return probs


def _proposals(stored: StoredOutput, device: torch.device) -> Proposals:
    tensors = stored.tensors
    rounds = [
        MergingRound(tensors[f"members.{n}"].to(device), tensors[f"seeds.{n}"].to(device), value)
        for n, value in enumerate(stored.layout["thresholds"])
    ]
    scores = tensors["scores"].to(device) if stored.layout.get("scores") else None
    return Proposals(tensors["proposals"].to(device), rounds, scores)


def _prompt(stored: StoredOutput) -> TokenisedPrompt:
    text, *spans = stored.layout["prompt"]
    return TokenisedPrompt(text, tuple((start, end) for start, end in spans))


def _equal(one: Tensor, other: Tensor) -> bool:
    alike = all(getattr(one, name) == getattr(other, name) for name in ("dtype", "shape", "device"))
    return alike and torch.equal(one, other)


def _form(stored: StoredOutput) -> str:
    """What must be alike in a batch, for comparison and for messages."""
    layout = stored.layout
    shapes = {
        name: tuple(own.shape)
        for name, own in sorted(stored.tensors.items())
        if name.startswith(("features", "cross"))
    }
    with_prompt = "prompt" in layout
    return str((layout["attention"], shapes, layout["thresholds"] is not None, with_prompt))


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of all that counts: no flipped bit and no cut goes unnoticed."""
    checksum = zlib.crc32(about.encode())
    for name in sorted(tensors):
        own = tensors[name]
        checksum = zlib.crc32(f"{name} {own.dtype} {tuple(own.shape)}".encode(), checksum)
        checksum = zlib.crc32(own.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _metadata(data: bytes) -> dict[str, Any]:
    """The texts in the header of a safetensors file, which ``load`` leaves out."""
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, Any] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


def _check(stored: StoredOutput) -> None:
    """Raise unless the tensors are those that the layout names."""
    layout = stored.layout
    names = {f"{kind}.{n}" for kind in ("features", "cross") for n in range(layout[kind])}
    for n, own in enumerate(layout["attention"]):
        names.add(f"attention.{n}")
        scaled, cells = stored.tensors[f"attention.{n}"], own["grid"][0] * own["grid"][1]
        if scaled.shape != (cells, cells) or scaled.dtype != torch.float16:
            raise ValueError("its attention does not fit its grids")
    if layout["thresholds"] is not None:
        rounds = range(len(layout["thresholds"]))
        names |= {"proposals", *(f"{kind}.{n}" for kind in ("members", "seeds") for n in rounds)}
    if layout["image"]:
        names.add("image")
    if layout.get("scores"):
        names.add("scores")
    if names != stored.tensors.keys():
        raise ValueError("it has other tensors than its header says")
