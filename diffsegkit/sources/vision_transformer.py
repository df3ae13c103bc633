"""Self-attention of vision transformers."""

import hashlib
import json
from collections.abc import Sequence
from math import inf
from typing import Any, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from diffsegkit.images import input_size
from diffsegkit.interfaces import AttentionMap, AttentionSource, SourceOutput
from diffsegkit.interfaces.checks import Grid
from diffsegkit.kernels import mean_attention
from diffsegkit.sources.transformer_capture import AttentionStates, capture_attention
from diffsegkit.sources.transformer_models import (
    FAMILIES,
    as_colour,
    import_transformers,
    load_transformer,
    read_model_type,
    read_normalisation,
)
from diffsegkit.weights import ComponentFiles, ModelFiles, WeightsDigest, find_model

Facet = Literal["qk", "qq", "kk", "vv"]
"""What of a layer is compared with what: queries, keys or values."""

Feature = Literal["tokens", "query", "key", "value"]
"""What of a layer a feature map is made of."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class VisionTransformerSource(AttentionSource):
    """Self-attention of ViT, DINO, DINOv2, DINOv3, MAE, or CLIP's image tower.

    Of each layer the attention maps are averaged over the heads; the columns of special tokens
    (class token, registers) are dropped and the rows renormalised. Position embeddings are
    interpolated to whatever grid the image gives, square or not. The model runs no further than
    the last layer that is asked for, and never holds the maps of all heads.

    The model's own attention, ``softmax(q k^T / sqrt(d))``, says where a patch looks. What it
    resembles is told by its keys, which is why they have been compared with each other before
    (Amir et al., "Deep ViT Features as Dense Visual Descriptors", 2021; Simeoni et al., LOST,
    2021), as a softmax too (Wang et al., SCLIP, 2023): ``facet="kk"``. Vectors agree most with
    themselves, so such attention is sharper and wants a higher ``temperature``.

    A patch is a cell: with patches of 14 pixels, a photo of 518 has a grid of 37 x 37, so the edges
    of segments are coarse.

    Args:
        model: A hub id, or a folder with ``config.json`` and safetensors, of one of the types
            ``vit`` (DINO is one), ``dinov2``, ``dinov2_with_registers``, ``dinov3_vit``,
            ``vit_mae``, ``clip`` and ``clip_vision_model``.
        revision: Branch, tag or commit on the hub.
        variant: Such as ``"fp16"``, for ``model.fp16.safetensors``.
        layers: Which layers, from 0; negative ones count from the end.
        facet: What is compared: ``"qk"`` is the model's own attention, ``"qq"``, ``"kk"`` and
            ``"vv"`` compare queries, keys or values with each other.
        temperature: What the products are divided by, beside sqrt(d), before the softmax; 1 is
            the model's own.
        average: Whether the layers become one map, averaged as they come. If not, there is one
            map per layer, which an aggregator averages.
        features: What the source gives as feature maps beside attention, for parts that compare
            features: ``"query"``, ``"key"`` or ``"value"`` of all heads side by side (TokenCut
            and MaskCut compare the keys of the last layer), or ``"tokens"``, what a layer passes
            on (of the last layer, after the model's final normalisation); None for no features.
            Queries and keys of DINOv3 have its rotary position embedding applied.
        feature_layers: Of which layers, one feature map each.
        image_size: The longer side to which the source itself brings images, in pixels. By
            default it takes them as they come, because a ``Segmenter`` sizes them.
        mean: Of each channel; by default what the model's ``preprocessor_config.json`` has, or
            else what its family was trained with.
        std: The standard deviation, likewise.
        dtype: What the model computes in; the maps are float32 all the same. ``"auto"`` is
            float32 on a CPU and float16 elsewhere.
        device: Where the model is put at first; by default the CPU.

    Raises:
        ComponentError: If transformers is not installed.
        WeightsError: If the model cannot be loaded whole, or is of another type.
        DownloadError: If it has to be fetched and cannot be.
        ValueError: If there is no such layer, or an argument is out of range.

    Example:
        >>> VisionTransformerSource.weights(model="facebook/dino-vits8").model
        'facebook/dino-vits8'
    """

    def __init__(
        self,
        model: str = "facebook/dinov2-small",
        revision: str | None = None,
        variant: str | None = None,
        layers: Sequence[int] = (-4, -3, -2, -1),
        facet: Facet = "qk",
        temperature: float = 1.0,
        average: bool = True,
        features: Feature | None = None,
        feature_layers: Sequence[int] = (-1,),
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
        device: str | None = None,
    ) -> None:
        super().__init__()
        if dtype != "auto" and dtype not in _DTYPES:
            raise ValueError(
                f"Expected argument `dtype` to be 'auto' or one of {tuple(_DTYPES)}, but got "
                f"{dtype!r}."
            )
        if facet not in get_args(Facet):
            raise ValueError(
                f"Expected argument `facet` to be one of {get_args(Facet)}, but got {facet!r}."
            )
        if features is not None and features not in get_args(Feature):
            raise ValueError(
                f"Expected argument `features` to be None or one of {get_args(Feature)}, but got "
                f"{features!r}."
            )
        if not 0 < temperature < inf:
            raise ValueError(f"Expected argument `temperature` above 0, but got {temperature}.")
        if image_size is not None and image_size < 1:
            raise ValueError(
                f"Expected argument `image_size` to be a positive integer, but got {image_size}."
            )
        own_mean, own_std = _checked_colour("mean", mean), _checked_colour("std", std)
        if own_std is not None and min(own_std) <= 0:
            raise ValueError(f"Expected argument `std` to be above 0, but got {std}.")
        import_transformers(type(self).__name__)
        folder = find_model(self.weights(model=model, revision=revision, variant=variant))
        self._model_type = read_model_type(folder)
        default_mean, default_std = read_normalisation(folder, FAMILIES[self._model_type])
        self.mean = default_mean if own_mean is None else own_mean
        self.std = default_std if own_std is None else own_std
        self.dtype = dtype
        place = torch.device("cpu" if device is None else device)
        loaded, self._config = load_transformer(
            folder, self._model_type, self.default_dtype(place), variant
        )
        count = self._config.num_hidden_layers
        self.layers = _resolve_layers("layers", layers, count, model)
        self.features = features
        self.feature_layers = _resolve_layers("feature_layers", feature_layers, count, model)
        self.model = loaded.to(place)
        self.facet = facet
        self.temperature = temperature
        self.average = average
        self.image_size = image_size
        self.size_multiple = int(self._config.patch_size)
        self._digest = WeightsDigest()

    @classmethod
    def weights(
        cls,
        model: str = "facebook/dinov2-small",
        revision: str | None = None,
        variant: str | None = None,
        **options: Any,  # noqa: ANN401, ARG003
    ) -> ModelFiles:
        """The files of a model: one set of weights, and how images are normalised.

        Args:
            model: A hub id, or a folder.
            revision: Branch, tag or commit on the hub.
            variant: Such as ``"fp16"``.
            options: The other arguments of the constructor, which do not matter here.
        """
        component = ComponentFiles("", "model", wanted=("preprocessor_config.json",))
        return ModelFiles(model, (component,), revision, variant)

    def default_dtype(self, device: torch.device) -> torch.dtype:
        """What ``dtype`` asks for; for ``"auto"``, float32 on a CPU and float16 elsewhere.

        Args:
            device: Where the source is going to be.
        """
        if self.dtype != "auto":
            return _DTYPES[self.dtype]
        return torch.float32 if device.type == "cpu" else torch.float16

    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:  # noqa: ARG002
        """Run the model up to the last layer that is asked for.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB; without ``image_size``, H and W are
                multiples of the patch size.
            prompts: Not looked at.

        Returns:
            One map for all layers, or one per layer in ascending order; float32, on the grid of
            patches. Features, if asked for, in ascending order of their layers.

        Raises:
            ValueError: If the size is no multiple of the patch size, or a layer gives NaN.
        """
        images = images.detach()
        if self.image_size is not None:
            images = _resize(images, self.image_size, self.size_multiple)
        grid = self._grid(images)
        maps: list[AttentionMap] = []
        features: dict[int, Tensor] = {}

        def take(layer: int, states: AttentionStates) -> None:
            if layer in self.feature_layers and self.features in ("query", "key", "value"):
                features[layer] = self._as_map(getattr(states, self.features), grid)
            if layer not in self.layers:
                return
            one = AttentionMap(self._attend(states, grid), grid, name=f"layer_{layer}")
            if self.average and maps:
                maps[0].probs.add_(one.probs)
            else:
                maps.append(one)

        tokens = self.features == "tokens"
        within = () if self.features is None or tokens else self.feature_layers
        layers = sorted({*self.layers, *within})
        inputs = self._inputs(images, grid)
        output = capture_attention(self.model, inputs, layers, take, hidden_states=tokens)
        if tokens:
            features = {layer: self._tokens(output, layer, grid) for layer in self.feature_layers}
        if self.average:
            name = "layers_" + "_".join(map(str, self.layers))
            mean = maps[0].probs.div_(len(self.layers))
            maps = [AttentionMap(mean, grid, name=name, count=len(self.layers))]
        return SourceOutput(maps, features=[*features.values()], images=images)

    def fingerprint(self) -> str:
        """The weights by their contents, what they are built into, and every option.

        Neither the folder nor the device is part of it.
        """
        settings = {
            "model_type": self._model_type,
            "config": _identity(self._config),
            "weights": self._digest(self.model),
            "dtype": str(self._parameter().dtype),
            "layers": self.layers,
            "facet": self.facet,
            "temperature": self.temperature,
            "average": self.average,
            # Absent where there are none, so that attention cached before there were any is found.
            **({"features": [self.features, self.feature_layers]} if self.features else {}),
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
        }
        content = json.dumps(settings, sort_keys=True, default=str)
        return f"VisionTransformerSource-1({hashlib.sha256(content.encode()).hexdigest()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"layers={self.layers}, facet={self.facet!r}, temperature={self.temperature}, "
            f"average={self.average}, features={self.features!r}, "
            f"feature_layers={self.feature_layers}, image_size={self.image_size}, "
            f"mean={self.mean}, std={self.std}, dtype={self.dtype!r}"
        )

    def _grid(self, images: Tensor) -> Grid:
        height, width = images.shape[2:]
        patch = self.size_multiple
        if height % patch or width % patch or 0 in (height, width):
            raise ValueError(
                f"Expected images whose height and width are multiples of {patch}, the model's "
                f"patch size, but got {height}x{width}; a Segmenter or `image_size` takes care "
                "of it."
            )
        return height // patch, width // patch

    def _attend(self, states: AttentionStates, grid: Grid) -> Tensor:
        """``(B, h*w, h*w)`` float32: the attention of one layer between patches."""
        special = self._special_tokens()
        one, other = (
            {"q": states.query, "k": states.key, "v": states.value}[c] for c in self.facet
        )
        self._check_tokens(one.shape[2], grid)
        scale = states.scale / self.temperature
        probs = mean_attention(one[:, :, special:], other, scale)[:, :, special:]
        return (probs / probs.sum(-1, keepdim=True)).float()

    def _tokens(self, output: Any, layer: int, grid: Grid) -> Tensor:  # noqa: ANN401
        """``(B, C, h, w)`` float32: what a layer passes on, of the last layer normalised."""
        last = layer == self._config.num_hidden_layers - 1
        hidden = output.last_hidden_state if last else output.hidden_states[layer + 1]
        return self._as_map(hidden[:, None], grid)

    def _as_map(self, states: Tensor, grid: Grid) -> Tensor:
        """``(B, H, N, d)`` of all tokens to ``(B, H*d, h, w)`` of the patches, float32.

        Raises:
            ValueError: If a number is not finite.
        """
        self._check_tokens(states.shape[2], grid)
        patches = states[:, :, self._special_tokens() :].float()
        if not bool(torch.isfinite(patches.sum())):
            raise ValueError(
                f"The features {self.features!r} are not finite: the model overflows in "
                f"{self._parameter().dtype} (then compute in float32, with --dtype), or its "
                "weights are damaged."
            )
        return rearrange(patches, "b heads (h w) d -> b (heads d) h w", h=grid[0])

    def _special_tokens(self) -> int:
        """The class token and, where the model has them, registers; they come first."""
        return 1 + int(getattr(self._config, "num_register_tokens", 0))

    def _check_tokens(self, tokens: int, grid: Grid) -> None:
        special = self._special_tokens()
        if tokens != special + grid[0] * grid[1]:
            raise RuntimeError(
                f"Expected {special} special tokens and {grid[0]}x{grid[1]} patches, but got "
                f"{tokens} tokens."
            )

    def _parameter(self) -> Tensor:
        return next(self.model.parameters())

    def _inputs(self, images: Tensor, grid: Grid) -> dict[str, Any]:
        """What the model is called with."""
        parameter = self._parameter()
        # Normalised in full precision, on the model's device.
        wide = torch.promote_types(images.dtype, torch.float32)
        images = images.to(parameter.device, wide)
        mean, std = (images.new_tensor(each)[:, None, None] for each in (self.mean, self.std))
        inputs: dict[str, Any] = {"pixel_values": ((images - mean) / std).to(parameter.dtype)}
        if FAMILIES[self._model_type].interpolates:
            inputs["interpolate_pos_encoding"] = True
        if self._model_type == "vit_mae":
            # MAE shuffles the patches by the order of this noise: ascending, they stay in place.
            order = torch.arange(grid[0] * grid[1], device=parameter.device, dtype=torch.float32)
            inputs["noise"] = order.expand(len(images), -1)
        return inputs


def _resolve_layers(
    argument: str, layers: Sequence[int], count: int, model: str
) -> tuple[int, ...]:
    """Layers counted from 0, in ascending order."""
    wrong = [layer for layer in layers if not -count <= layer < count]
    if wrong or not layers:
        raise ValueError(
            f"Expected argument `{argument}` to hold one or more of the {count} layers of "
            f"{model!r}, from {-count} to {count - 1}, but got {list(layers)}."
        )
    resolved = sorted(layer % count for layer in layers)
    if len(set(resolved)) < len(resolved):
        raise ValueError(
            f"Expected argument `{argument}` to name each layer once, but got {list(layers)} of "
            f"{count} layers."
        )
    return tuple(resolved)


def _checked_colour(name: str, values: Sequence[float] | None) -> tuple[float, float, float] | None:
    try:
        return None if values is None else as_colour(values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected argument `{name}` to hold three numbers, but got {values!r}."
        ) from error


def _resize(images: Tensor, image_size: int, multiple: int) -> Tensor:
    """The aspect ratio is kept as far as whole patches allow."""
    size = input_size((images.shape[2], images.shape[3]), image_size, "fit", multiple)
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    return functional.interpolate(wide, size=size, mode="bilinear", antialias=True).clamp(0, 1)


def _identity(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a model's configuration says of its output, and nothing of where it is from."""
    elsewhere = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}
    return {name: value for name, value in config.to_dict().items() if name not in elsewhere}
