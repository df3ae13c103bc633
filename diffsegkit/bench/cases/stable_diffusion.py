"""Stable Diffusion 1.4 from photo to label map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsegkit.bench.case import Case, Contender, Setting, Size
from diffsegkit.bench.comparison import largest_change_of_a_map
from diffsegkit.bench.materialised_stable_diffusion import attention_of, bare_pass
from diffsegkit.bench.random_stable_diffusion import write_folder
from diffsegkit.interfaces import Proposals
from diffsegkit.segmentation import close_gaps
from diffsegkit.segmenter import Segmenter


@dataclass(frozen=True)
class _Photos:
    """``(B, 3, H, W)`` in [0, 1], and the model that looks at them."""

    images: Tensor
    folder: Path
    dtype: str

    @property
    def placement(self) -> tuple[Path, torch.device, torch.dtype]:
        """What to load, where to, and in which dtype."""
        return self.folder, self.images.device, getattr(torch, self.dtype)


def _sizes(device: torch.device) -> Sequence[Size]:
    if device.type == "cpu":
        return [{"images": 1, "pixels": 512, "dtype": "float32"}]
    return [{"images": 16, "pixels": 512, "dtype": "float16"}]


def _inputs(setting: Setting) -> _Photos:
    if setting.folder is None:
        raise ValueError("Expected a folder with a model, but got none.")
    shape = (setting["images"], 3, setting["pixels"], setting["pixels"])
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return _Photos(images.to(setting.device), setting.folder, str(setting.size["dtype"]))


def _contenders(device: torch.device) -> Sequence[Contender]:
    # In float16 the materialised softmax is rounded, and so is all that comes after it.
    tolerance = 5e-2 if device.type == "cuda" else 1e-3
    return [
        Contender("diffsegkit", "ours", _segment, tolerance, _load_ours),
        Contender("materialised", "baseline", _segment_kept, tolerance, _load_materialised),
        Contender("bare VAE and UNet", "floor", _pass, prepare=_load_bare),
    ]


def _load_ours(photos: _Photos) -> tuple[Segmenter, _Photos]:
    source = {"model": str(photos.folder), "dtype": photos.dtype}
    segmenter = Segmenter.from_preset(
        "diffseg-sd14", source=source, image_size=photos.images.shape[-1]
    )
    return segmenter.to(photos.images.device), photos


def _segment(inputs: tuple[Segmenter, _Photos]) -> Tensor:
    segmenter, photos = inputs
    found = segmenter(photos.images, batch_size=len(photos.images))
    return torch.cat([each.proposals.maps.flatten(1) for each in found])


def _load_materialised(photos: _Photos) -> tuple[Any, Segmenter, _Photos]:
    # Of this one all but the source is used, so that only the attention is another's.
    rest = Segmenter.from_preset("diffseg", source="AffinitySource")
    return attention_of(*photos.placement), rest.to(photos.images.device), photos


def _segment_kept(inputs: tuple[Any, Segmenter, _Photos]) -> Tensor:
    attention, rest, photos = inputs
    size = (photos.images.shape[2], photos.images.shape[3])
    proposals: list[Proposals] = rest.merge(rest.aggregate(attention(photos.images)))
    labels = rest.assigner(proposals, size)
    kept = [close_gaps(image, own)[1] for image, own in zip(labels, proposals, strict=True)]
    return torch.cat([each.maps.flatten(1) for each in kept])


def _load_bare(photos: _Photos) -> tuple[Any, _Photos]:
    return bare_pass(*photos.placement), photos


def _pass(inputs: tuple[Any, _Photos]) -> Tensor:
    predicted: Tensor = inputs[0](inputs[1].images)
    return predicted


CASE = Case(
    _sizes,
    _inputs,
    _contenders,
    largest_change_of_a_map,
    requires=("diffusers", "transformers"),
    extra="sd",
    share=write_folder,
)
