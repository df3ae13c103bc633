"""Self-attention of Stable Diffusion, the paper's source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from diffsegkit.errors import ComponentError, WeightsError
from diffsegkit.images.geometry import input_size, resize_image
from diffsegkit.interfaces import AttentionSource, SourceOutput, TokenisedPrompt
from diffsegkit.interfaces.checks import Grid
from diffsegkit.sources.stable_diffusion.capture import Recorder, capturing
from diffsegkit.sources.stable_diffusion.layers import (
    cross_attention_layers,
    is_plain,
    layer_grids,
    select_layers,
    select_modules,
    self_attention_layers,
)
from diffsegkit.weights import ComponentFiles, ModelFiles, WeightsDigest, find_model

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from diffsegkit.sources.stable_diffusion.checkpoint import Checkpoint
    from diffsegkit.sources.stable_diffusion.text import Condition, TextEncoder
    from diffsegkit.sources.stable_diffusion.vae import VAEEncoder

SD14 = "CompVis/stable-diffusion-v1-4"
"""The paper's model."""

DType = Literal["auto", "float32", "float16", "bfloat16"]

_DIFFUSION_MODEL = "diffusion_pytorch_model"
_TOKENIZER = ComponentFiles(
    "tokenizer",
    required=(("vocab.json", "tokenizer.json"), ("merges.txt", "tokenizer.json")),
    wanted=("tokenizer_config.json", "special_tokens_map.json"),
)


class StableDiffusionSource(AttentionSource):
    """Self-attention of the UNet of Stable Diffusion 1.x, 2.x, XL, or SSD-1B.

    The image is encoded to a latent, the UNet is run once on it, and the softmax of every
    self-attention layer (``attn1``) is averaged over heads. No noise is added: as in the original,
    the timestep enters through its embedding alone (paper, section 3.1; ``diffseg.py`` in the
    original). The defaults are the original's.

    Only what is needed is loaded: the autoencoder's encoder, the UNet, and, for as long as it
    takes to encode ``prompt``, the text encoder. The UNet stops after the last wanted layer.
    Per-head maps exist in blocks only, see :func:`~diffsegkit.kernels.mean_attention`.

    Args:
        model: An id on the Hugging Face hub, a folder in the layout of diffusers, or a single
            ``.safetensors`` file with all parts.
        revision: Branch, tag or commit on the hub.
        variant: Such as ``"fp16"``, for files of half the size where the model has them.
        config: For a single file: the folder or hub id whose configurations (and tokenizer, if
            there are prompts) belong to it. The default is that of the family it looks like.
        timestep: From 0 to 999; 300 in the paper.
        noise: Whether noise of that timestep is added to the latent.
        latent: ``"mean"`` of the encoder's distribution, or a ``"sample"`` of it.
        prompt: What every image is conditioned on, unless prompts are given with the images.
        layers: Which layers, by name patterns such as ``"up_blocks.*"`` (without a wildcard: a
            part of the name) or resolutions (longer side of a grid, in cells); None for all, an
            empty list for none, if there are features or cross-attention.
        average: Whether the layers of one grid are averaged as they come, which needs a fifth of
            the memory with SD 1.x; otherwise each layer gives a map with its name.
        features: Names or name patterns of modules of the UNet whose output is given as a feature
            map: ``"down_blocks.2"`` is what a block passes on, ``"down_blocks.2.attentions.1"``
            the output of its second stack of transformer layers, and
            ``"down_blocks.2.*.attn1"`` those of its self-attention layers, of which the last is
            what DiffCut takes of SSD-1B (a part that wants one feature map takes the last).
        cross: Whether cross-attention is given too: from locations to the tokens of the prompt.
            True for all layers, or a list as ``layers`` has it.
        image_size: Longer side in pixels to which images are brought before they are encoded;
            None takes them as they come, which is what a :class:`~diffsegkit.Segmenter`, with an
            ``image_size`` of its own, expects.
        seed: Of the noise and the sample. Every image gets the same, whatever its batch.
        dtype: What the weights are loaded in; ``"auto"`` is float32 on a CPU and float16 on a GPU.
            Logits and softmax are float32 always. The encoder of SDXL overflows in float16, so it
            stays in float32 then.
        device: Where to load to; None leaves it to ``.to()``.

    Raises:
        ComponentError: If diffusers or transformers is not installed.
        WeightsError: If the model's files are missing, damaged, or of another kind.
        DownloadError: If the model has to be fetched and cannot be.
        ValueError: If an argument is out of range.

    Example:
        >>> from diffsegkit.sources import StableDiffusionSource
        >>> files = StableDiffusionSource.weights(model="CompVis/stable-diffusion-v1-4")
        >>> [component.folder for component in files.components][:3]
        ['', 'vae', 'unet']
    """

    def __init__(
        self,
        model: str = SD14,
        *,
        revision: str | None = None,
        variant: str | None = None,
        config: str | None = None,
        timestep: int = 300,
        noise: bool = False,
        latent: Literal["mean", "sample"] = "mean",
        prompt: str = "",
        layers: Sequence[str | int] | None = None,
        average: bool = True,
        features: Sequence[str] = (),
        cross: bool | Sequence[str | int] = False,
        image_size: int | None = None,
        seed: int = 0,
        dtype: DType = "auto",
        device: str | None = None,
    ) -> None:
        super().__init__()
        _check_options(timestep, latent, image_size, dtype)
        _check_wanted(layers, features, cross)
        self.model = model
        self.timestep = timestep
        self.noise = noise
        self.latent = latent
        self.prompt = prompt
        self.layers = None if layers is None else tuple(layers)
        self.average = average
        self.features = tuple(features)
        self.cross: bool | tuple[str | int, ...] = (
            cross if isinstance(cross, bool) else tuple(cross)
        )
        self.image_size = image_size
        self.seed = seed
        self.dtype = dtype
        target = _usable(device or "cpu")
        wanted = self.default_dtype(target) or torch.float32
        self._checkpoint = _open(self.weights(model, revision, variant, noise=noise), config)
        self._text_encoders: list[TextEncoder] | None = None
        # Text first: its encoder is gone before the large networks come.
        condition = self._encode([prompt])
        self._tokenised = self._tokenise([prompt])[0] if self.cross else None
        self._text_encoders = None
        self.register_buffer("_embeddings", condition.embeddings.to(wanted), persistent=False)
        pooled = None if condition.pooled is None else condition.pooled.to(wanted)
        self.register_buffer("_pooled", pooled, persistent=False)
        self._embeddings: Tensor
        self._pooled: Tensor | None
        is_xl = condition.pooled is not None
        in_half = is_xl and wanted == torch.float16
        self.vae = self._checkpoint.vae_encoder(torch.float32 if in_half else wanted)
        self.vae.overflows_in_half = is_xl and self.vae.config.force_upcast
        self.unet = self._checkpoint.unet(wanted)
        _check_networks(self.vae, self.unet, self._embeddings, self._pooled)
        self._schedule = self._checkpoint.noise_schedule() if noise else None
        if self._schedule is not None and timestep >= len(self._schedule.alphas_cumprod):
            raise ValueError(
                f"Expected argument `timestep` below {len(self._schedule.alphas_cumprod)}, the "
                f"number of steps of this model's noise schedule, but got {timestep}."
            )
        self._latent_span = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._spans = self_attention_layers(self.unet)
        self._cross_spans = cross_attention_layers(self.unet)
        self._modules_wanted = select_modules(self.unet, self.features)
        self.size_multiple = self._latent_span * max(
            2 ** (len(self.unet.config.down_block_types) - 1), *self._spans.values()
        )
        self._digest = WeightsDigest()
        # Resolutions depend on the image; a name that selects nothing is wrong whatever comes.
        for argument, spans, wanted_layers in (
            ("layers", self._spans, self.layers or ()),
            ("cross", self._cross_spans, () if isinstance(self.cross, bool) else self.cross),
        ):
            names = [each for each in wanted_layers if not str(each).isdecimal()]
            square = layer_grids(spans, (max(spans.values()),) * 2)
            select_layers(square, names, argument)
        self.to(target)

    @property
    def layer_names(self) -> list[str]:
        """The names of all self-attention layers, in the order in which the UNet runs them."""
        return list(self._spans)

    @torch.no_grad()
    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """Run the UNet once on a batch of images.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB; H and W multiples of 8, and of
                :attr:`size_multiple` for whole cells at every level.
            prompts: One per image, in place of ``prompt``; the text encoder is loaded for them
                and kept.

        Returns:
            One map per grid (or per layer, without ``average``), finest first as the UNet comes
            to them, float32; features and cross-attention likewise. Its ``images`` are what was
            encoded; with cross-attention, its ``prompts`` say which tokens are which words.

        Raises:
            ValueError: If the size is not a multiple, there is not one prompt per image, or the
                model overflows in its dtype; the message names the layer.
        """
        _check_images(images, prompts)
        if self.image_size is not None:
            size = (images.shape[2], images.shape[3])
            wanted = input_size(size, self.image_size, "fit", self.size_multiple)
            images = torch.stack([resize_image(image, wanted, False) for image in images])
        self._check_size(images.shape[2], images.shape[3])
        latents = self._latents(images.to(self.unet.device))
        grids = layer_grids(self._spans, (latents.shape[2], latents.shape[3]))
        selected = select_layers(grids, self.layers)
        cross: dict[str, Grid] = {}
        if self.cross:
            cross_grids = layer_grids(self._cross_spans, (latents.shape[2], latents.shape[3]))
            wanted_cross = None if isinstance(self.cross, bool) else self.cross
            cross = select_layers(cross_grids, wanted_cross, "cross")
        features = {name: _grid_of(name, grids) for name in self._modules_wanted}
        condition = self._condition(prompts, len(images), (images.shape[2], images.shape[3]))
        recorder = Recorder(selected, self.average, cross, features)
        with capturing(self.unet, recorder, {**selected, **cross}, features):
            self.unet(latents, self.timestep, **condition)
        return SourceOutput(
            recorder.attention(),
            features=recorder.features(),
            cross=recorder.cross(),
            images=images,
            prompts=self._prompts(prompts, len(images)) if self.cross else None,
        )

    @classmethod
    def weights(
        cls,
        model: str = SD14,
        revision: str | None = None,
        variant: str | None = None,
        *,
        noise: bool = False,
        **_: Any,  # noqa: ANN401
    ) -> ModelFiles:
        """The files a source with these arguments loads; see the class.

        Args:
            model: Hub id or folder.
            revision: On the hub.
            variant: Such as ``"fp16"``.
            noise: Whether the noise schedule is needed.
        """
        text = ComponentFiles("text_encoder", "model", tensors=("token_embedding.weight",))
        schedule = (ComponentFiles("scheduler", required=("scheduler_config.json",)),)
        return ModelFiles(
            model,
            (
                ComponentFiles("", required=(), wanted=("model_index.json",)),
                ComponentFiles("vae", _DIFFUSION_MODEL, tensors=("encoder.conv_in.weight",)),
                ComponentFiles("unet", _DIFFUSION_MODEL, tensors=("time_embedding.linear_1.bias",)),
                text,
                _TOKENIZER,
                *(
                    replace(component, folder=f"{component.folder}_2", optional=True)
                    for component in (text, _TOKENIZER)
                ),
                *(schedule if noise else ()),
            ),
            revision,
            variant,
        )

    def default_dtype(self, device: torch.device) -> torch.dtype | None:
        """The ``dtype`` asked for; with ``"auto"`` float16 on a GPU and float32 elsewhere.

        Args:
            device: Where the source is going to be.
        """
        if self.dtype == "auto":
            return torch.float16 if device.type == "cuda" else torch.float32
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def fingerprint(self) -> str:
        """The weights as they are in memory, what they are built into, and every option.

        Neither the folder nor the device is part of it. It is empty, so that nothing is cached,
        where something else has been put into the UNet: adapters, FreeU, or processors of others.
        """
        if not is_plain(self.unet):
            return ""
        networks = [_identity(self.vae.config), _identity(self.unet.config)]
        if self._schedule is not None:
            networks.append(_identity(self._schedule.config))
        content = json.dumps([self._digest(self), *networks, self.extra_repr()], default=str)
        return f"StableDiffusionSource-1({hashlib.sha256(content.encode()).hexdigest()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"timestep={self.timestep}, noise={self.noise}, latent={self.latent!r}, "
            f"prompt={self.prompt!r}, layers={self.layers}, average={self.average}, "
            f"image_size={self.image_size}, seed={self.seed}{self._extras()}"
        )

    def _extras(self) -> str:
        """What was asked for beside attention; nothing where nothing was."""
        features = f", features={self.features}" if self.features else ""
        return features + (f", cross={self.cross}" if self.cross else "")

    def _check_size(self, height: int, width: int) -> None:
        if height % self._latent_span or width % self._latent_span or 0 in (height, width):
            raise ValueError(
                f"Expected height and width to be multiples of {self._latent_span} pixels (better "
                f"of {self.size_multiple}, so that every level of the UNet has whole cells), but "
                f"got {height}x{width}; a Segmenter resizes to that, and so does the argument "
                "`image_size`."
            )

    def _latents(self, images: Tensor) -> Tensor:
        """``(B, 4, H/8, W/8)`` in the UNet's dtype."""
        pixels = images.to(self.vae.dtype) * 2 - 1
        # On a CPU the encoder's activations, 134 MB each at 512 pixels, are what needs memory.
        parts = torch.split(pixels, 1 if pixels.device.type == "cpu" else len(pixels))
        moments = torch.cat([self.vae.encode(part).latent_dist.parameters for part in parts])
        mean, log_variance = moments.float().chunk(2, dim=1)
        generators = [torch.Generator().manual_seed(self.seed) for _ in images]
        if self.latent == "sample":
            # The bounds are those of diffusers' and the original's distribution.
            deviation = torch.exp(0.5 * log_variance.clamp(-30, 20))
            mean = mean + deviation * _normal_like(mean, generators)
        latents: Tensor = (
            mean - (self.vae.config.shift_factor or 0)
        ) * self.vae.config.scaling_factor
        if self._schedule is not None:
            timesteps = torch.tensor([self.timestep] * len(images))
            noise = _normal_like(latents, generators)
            latents = self._schedule.add_noise(latents, noise, timesteps)
        if not torch.isfinite(latents).all():
            raise ValueError(
                "The latent is not finite: the VAE overflows in float16 (then compute in float32 "
                "or bfloat16, with --dtype or the source's `dtype`), or its weights are damaged."
            )
        return latents.to(self._embeddings.dtype)

    def _condition(
        self, prompts: Sequence[str] | None, images: int, size: tuple[int, int]
    ) -> dict[str, Any]:
        """The arguments of the UNet that are not the latent and the timestep."""
        embeddings, pooled = self._embeddings, self._pooled
        if prompts is not None:
            condition = self._encode(prompts)
            embeddings = condition.embeddings.to(embeddings)
            pooled = None if condition.pooled is None else condition.pooled.to(embeddings)
        arguments: dict[str, Any] = {
            "encoder_hidden_states": embeddings.expand(images, -1, -1),
            "return_dict": False,
        }
        if pooled is not None:
            # SDXL was trained with the size of the picture, where it was cropped from, and the
            # size of the crop as conditions (Podell et al., 2023, section 2.2).
            sizes = torch.tensor([[*size, 0, 0, *size]] * images).to(embeddings)
            arguments["added_cond_kwargs"] = {
                "text_embeds": pooled.expand(images, -1),
                "time_ids": sizes,
            }
        return arguments

    def _encode(self, prompts: Sequence[str]) -> Condition:
        from diffsegkit.sources.stable_diffusion.text import encode

        if self._text_encoders is None:
            self._text_encoders = self._checkpoint.text_encoders()
        return encode(prompts, self._text_encoders)

    def _tokenise(self, prompts: Sequence[str]) -> list[TokenisedPrompt]:
        from diffsegkit.sources.stable_diffusion.text import tokenise

        assert self._text_encoders is not None  # encode came first
        return tokenise(prompts, self._text_encoders)

    def _prompts(self, prompts: Sequence[str] | None, images: int) -> list[TokenisedPrompt]:
        """What the tokens stand for, one per image."""
        if prompts is not None:
            return self._tokenise(prompts)
        assert self._tokenised is not None  # with cross-attention it was kept
        return [self._tokenised] * images


def _check_images(images: Tensor, prompts: Sequence[str] | None) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"Expected images of shape (B, 3, H, W), but got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise ValueError(f"Expected images in floating point, in [0, 1], but got {images.dtype}.")
    if prompts is None:
        return
    texts = not isinstance(prompts, str) and all(isinstance(text, str) for text in prompts)
    if not texts or len(prompts) != len(images):
        raise ValueError(
            f"Expected one prompt for each of {len(images)} images, but got {prompts!r}."
        )


def _check_options(
    timestep: int,
    latent: str,
    image_size: int | None,
    dtype: str,
) -> None:
    whole = isinstance(timestep, int) and not isinstance(timestep, bool)
    if not whole or not 0 <= timestep < 1000:
        raise ValueError(
            f"Expected argument `timestep` to be a whole number from 0 to 999, but got {timestep}."
        )
    if latent not in ("mean", "sample"):
        raise ValueError(
            f"Expected argument `latent` to be 'mean' or 'sample', but got {latent!r}."
        )
    if image_size is not None and image_size < 1:
        raise ValueError(f"Expected argument `image_size` to be positive, but got {image_size}.")
    if dtype not in get_args(DType):
        raise ValueError(
            f"Expected argument `dtype` to be one of {get_args(DType)}, but got {dtype!r}."
        )


def _check_wanted(
    layers: Sequence[str | int] | None,
    features: Sequence[str],
    cross: bool | Sequence[str | int],
) -> None:
    nothing_else = not features and not cross
    if layers is not None and (isinstance(layers, str) or (len(layers) == 0 and nothing_else)):
        raise ValueError(
            "Expected argument `layers` to be a list of name patterns and resolutions, or None for "
            f"all, but got {layers!r}."
        )
    if isinstance(features, str) or not all(isinstance(name, str) for name in features):
        raise ValueError(
            f"Expected argument `features` to be a list of names of modules, but got {features!r}."
        )
    if not isinstance(cross, bool) and (isinstance(cross, str) or len(cross) == 0):
        raise ValueError(
            "Expected argument `cross` to be true, false, or a list of name patterns and "
            f"resolutions, but got {cross!r}."
        )


def _grid_of(module: str, grids: Mapping[str, Grid]) -> Grid | None:
    """The grid of a module whose output is a list of locations: that of the attention around it."""
    for layer, grid in grids.items():
        block = layer.removesuffix(".attn1")
        if f"{module}.".startswith(f"{block}."):
            return grid
    return None


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    # Which error an absent device raises depends on how torch was built.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Expected argument `device` to be one that can be used here, but got {device!r}; "
            "`diffsegkit doctor` lists them."
        ) from error


def _open(files: ModelFiles, config: str | None) -> Checkpoint:
    """The checkpoint behind ``model``: a single file, a folder, or the hub's."""
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    if missing:
        raise ComponentError(
            f"StableDiffusionSource needs {' and '.join(missing)}: pip install 'diffsegkit[sd]'."
        )
    from diffsegkit.sources.stable_diffusion.checkpoint import FolderCheckpoint
    from diffsegkit.sources.stable_diffusion.single_file import SingleFileCheckpoint

    path = Path(files.model).expanduser()
    if path.suffix in (".safetensors", ".ckpt") and not path.is_dir():
        return SingleFileCheckpoint(path, config)
    if config is not None:
        raise ValueError(
            "Expected argument `config` only with a single .safetensors file as the model, but "
            f"the model is {files.model!r}."
        )
    return FolderCheckpoint(find_model(files), files)


def _check_networks(
    vae: VAEEncoder, unet: UNet2DConditionModel, embeddings: Tensor, pooled: Tensor | None
) -> None:
    """Raise unless the parts fit each other and the family."""
    latent, taken = vae.config.latent_channels, unet.config.in_channels
    if latent != taken:
        raise WeightsError(
            f"Expected a UNet that takes the {latent} channels of its VAE's latent, but this one "
            f"takes {taken}; models for inpainting, depth or upscaling are not supported."
        )
    scaling = vae.config.scaling_factor
    if not isinstance(scaling, (int, float)) or not scaling > 0:
        raise WeightsError(
            "Expected the VAE's config.json to have a scaling_factor above 0, such as 0.18215, but "
            f"got {scaling!r}."
        )
    if unet.config.cross_attention_dim != embeddings.shape[-1]:
        raise WeightsError(
            f"Expected a UNet that reads text of {embeddings.shape[-1]} dimensions, as its text "
            f"encoder gives it, but this one reads {unet.config.cross_attention_dim}; the parts "
            "are of different models."
        )
    kind = unet.config.addition_embed_type
    if kind != (None if pooled is None else "text_time"):
        raise WeightsError(
            f"Expected a UNet of Stable Diffusion 1.x, 2.x (one text encoder) or XL (two, and "
            f"addition_embed_type 'text_time'), but got addition_embed_type {kind!r} and "
            f"{'two encoders' if pooled is not None else 'one encoder'}."
        )


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a network's configuration says of its output, and nothing of where it is from."""
    return {name: config[name] for name in sorted(config) if not name.startswith("_")}


def _normal_like(values: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise, each image's from its own generator, the same on every device."""
    noise = [torch.randn(values.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(values)
