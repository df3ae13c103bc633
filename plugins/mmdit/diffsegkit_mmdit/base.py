"""What the sources of Stable Diffusion 3 and of FLUX have in common."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn

from diffsegkit import AttentionSource, SourceOutput
from diffsegkit.errors import ComponentError, UsageError, WeightsError
from diffsegkit.images import input_size, resize_image
from diffsegkit.interfaces import Grid
from diffsegkit.weights import ComponentFiles, ModelFiles, WeightsDigest
from diffsegkit_mmdit.capture import Projections, Recorder, capturing
from diffsegkit_mmdit.layers import JOINT, blocks_to_keep, select_layers
from diffsegkit_mmdit.proposals import Normalise, token_proposals
from diffsegkit_mmdit.schedule import NoiseSchedule

if TYPE_CHECKING:
    from diffsegkit.sources.networks import VAEEncoder
    from diffsegkit_mmdit.checkpoint import Checkpoint
    from diffsegkit_mmdit.text import Condition, TextEncoder

DType = Literal["auto", "float32", "float16", "bfloat16"]

DIFFUSION_MODEL = "diffusion_pytorch_model"
CLIP_TOKENIZER = ComponentFiles(
    "tokenizer",
    required=(("vocab.json", "tokenizer.json"), ("merges.txt", "tokenizer.json")),
    wanted=("tokenizer_config.json", "special_tokens_map.json"),
)
CLIP = ComponentFiles("text_encoder", "model", tensors=("token_embedding.weight",))
T5 = ComponentFiles("text_encoder", "model", tensors=("block.0.layer.0.SelfAttention.q.weight",))
T5_TOKENIZER = ComponentFiles(
    "tokenizer",
    required=("tokenizer.json",),
    wanted=("tokenizer_config.json", "special_tokens_map.json"),
)


class JointAttentionSource(AttentionSource):
    """Base of the sources whose image and text attend to each other in one softmax.

    A subclass says which networks there are, how text is encoded, and how the transformer is run.
    Its constructor checks what is its own, and calls :meth:`_set_options` and :meth:`_load`.
    """

    family: ClassVar[str]
    """What the models are called, for messages."""

    transformer_class: ClassVar[str]
    """The class of the transformer, in diffusers."""

    blocks: ClassVar[Mapping[str, str]]
    """The lists of blocks in the order in which they run, and where the configuration has their
    number."""

    evenly: ClassVar[bool]
    """Whether the pipeline asks for equally spaced sigmas, see :class:`.NoiseSchedule`."""

    half_precision: ClassVar[torch.dtype]
    """What "auto" is on a GPU."""

    vae: VAEEncoder
    transformer: Any

    def _set_options(
        self,
        model: str,
        *,
        noise_steps: int,
        inference_steps: int,
        noise: bool,
        latent: str,
        prompt: str,
        layers: Sequence[str | int] | None,
        average: bool,
        cross: bool | Sequence[str | int],
        proposals: str | None,
        normalise: str,
        kinds: Sequence[str],
        image_size: int | None,
        seed: int,
        dtype: str,
    ) -> None:
        """Check and keep the options that both families have."""
        _check_options(noise_steps, inference_steps, latent, image_size, dtype)
        _check_wanted(layers, cross, proposals, normalise, kinds)
        self.model = model
        self.noise_steps = noise_steps
        self.inference_steps = inference_steps
        self.noise = noise
        self.latent = latent
        self.prompt = prompt
        self.layers = None if layers is None else tuple(layers)
        self.average = average
        self.cross: bool | tuple[str | int, ...] = (
            cross if isinstance(cross, bool) else tuple(cross)
        )
        self.proposals = proposals
        self.normalise: Normalise = "locations" if normalise == "locations" else "tokens"
        self.image_size = image_size
        self.seed = seed
        self.dtype = dtype

    def _load(self, files: ModelFiles, device: str | None) -> None:
        """Load the networks, one after the other, and what is left of the text."""
        target = _usable(device or "cpu")
        wanted = self.default_dtype(target) or torch.float32
        self._text_dtype = torch.float32 if wanted == torch.float32 else torch.bfloat16
        self._checkpoint = self._open(files)
        config = self._checkpoint.transformer_config()
        self._layer_names = self._all_layers(config)
        self._wanted = select_layers(self._layer_names, self.layers)
        self._text_layers = self._choose_text_layers()
        self._schedule = NoiseSchedule(self._checkpoint.schedule_config(), self.evenly)
        # Text first: its encoders are gone before the large networks come.
        self._text_encoders: Sequence[TextEncoder] | None = None
        self._width = int(config["joint_attention_dim"])
        condition = self._encode([self.prompt])
        self._text_encoders = None
        self._prompts, self._padding = condition.prompts, condition.padding
        self.register_buffer("_embeddings", condition.embeddings.to(wanted), persistent=False)
        self.register_buffer("_pooled", condition.pooled.to(wanted), persistent=False)
        self._embeddings: Tensor
        self._pooled: Tensor
        self._check_text(config)
        self.vae = self._checkpoint.vae_encoder(
            torch.float32 if wanted == torch.float16 else wanted
        )
        # These encoders were made to stay out of float16, as their configuration says.
        self.vae.overflows_in_half = bool(self.vae.config.force_upcast)
        counts = {name: int(config[key]) for name, key in self.blocks.items()}
        last = [name for name in self._layer_names if name in {*self._wanted, *self._text_layers}]
        self.transformer = self._checkpoint.transformer(wanted, blocks_to_keep(last, counts))
        self._check_latent()
        latent_span = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.size_multiple = latent_span * self._cells_per_token()
        self._digest = WeightsDigest()
        self.to(target)
        if wanted == torch.float16:
            self.vae.to(wanted)  # which moves it only where it does not overflow

    # What a family says of itself

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> Condition:
        """Encode prompts; the encoders are loaded if they are not there, and kept."""

    @abstractmethod
    def _project(
        self,
        attn: nn.Module,
        hidden: Tensor,
        text: Tensor | None,
        rotary: Any,  # noqa: ANN401
    ) -> Projections:
        """What a layer compares, computed as diffusers' own processors compute it."""

    @abstractmethod
    def _run(self, latents: Tensor, timestep: Tensor, embeddings: Tensor, pooled: Tensor) -> None:
        """Run the transformer once.

        Args:
            latents: ``(B, C, h, w)`` in its dtype.
            timestep: From 0 to 1000.
            embeddings: ``(B, T, D)``.
            pooled: ``(B, P)``.
        """

    @abstractmethod
    def _latent_channels(self) -> int:
        """How many channels of a latent the transformer takes."""

    def _cells_per_token(self) -> int:
        """How many cells of the latent a token of the image is high and wide."""
        return 2

    def _layers_of_block(self, name: str, index: int, config: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """The attention layers of a block, in the order in which they run."""
        return [f"{name}.{index}{JOINT}"]

    def _proposal_tokens(self, padding: Tensor) -> Tensor:
        """Which tokens are proposals, ``(B, T)`` bool."""
        return padding if self.proposals == "padding" else torch.ones_like(padding)

    def _check_grid(self, grid: Grid) -> None:
        """Raise if the image is too large for the transformer."""

    # What is the same for both

    @property
    def layer_names(self) -> list[str]:
        """The names of all attention layers, in the order in which the transformer runs them."""
        return list(self._layer_names)

    @torch.no_grad()
    def forward(self, images: Tensor, *, prompts: Sequence[str] | None = None) -> SourceOutput:
        """Run the transformer once on a batch of images.

        Args:
            images: ``(B, 3, H, W)``, float in [0, 1], RGB; H and W multiples of
                :attr:`size_multiple`.
            prompts: One per image, in place of ``prompt``; the text encoders are loaded for them
                and kept.

        Returns:
            One map (or one per layer, without ``average``), float32, whose rows are what each
            location attends to of the image. With ``cross``, attention to the tokens of the text,
            which sums to 1 over them; with ``proposals``, those; with either, ``prompts`` says
            which tokens are which words. Its ``images`` are what was encoded.

        Raises:
            ValueError: If the size is not a multiple, there is not one prompt per image, or the
                model overflows in its dtype; the message names the layer.
        """
        _check_images(images, prompts)
        if self.image_size is not None:
            wanted = input_size(
                (images.shape[2], images.shape[3]), self.image_size, "fit", self.size_multiple
            )
            images = torch.stack([resize_image(image, wanted, False) for image in images])
        height, width = images.shape[2:]
        self._check_size(height, width)
        grid = (height // self.size_multiple, width // self.size_multiple)
        self._check_grid(grid)
        device = self._embeddings.device
        latents, timestep = self._noisy_latents(images.to(device), grid)
        embeddings, pooled, padding = self._embeddings, self._pooled, self._padding
        texts = self._prompts
        if prompts is not None:
            condition = self._encode(prompts)
            embeddings, pooled = condition.embeddings.to(embeddings), condition.pooled.to(pooled)
            padding, texts = condition.padding, condition.prompts
        count = len(images)
        recorder = Recorder(grid, self._wanted, self._text_layers, self.average)
        with capturing(self.transformer, recorder, self._project):
            self._run(latents, timestep, embeddings.expand(count, -1, -1), pooled.expand(count, -1))
        attention, text = recorder.attention(), recorder.text()
        chosen = self._proposal_tokens(padding).expand(count, -1)
        wants_text = bool(self._text_layers)
        return SourceOutput(
            attention,
            cross=_cross(text, grid, self.average) if self.cross else (),
            proposals=None if self.proposals is None else self._propose(text, grid, chosen),
            images=images,
            prompts=list(texts) * (count // len(texts)) if wants_text else None,
        )

    def default_dtype(self, device: torch.device) -> torch.dtype | None:
        """The ``dtype`` asked for; with ``"auto"`` half precision on a GPU, float32 elsewhere.

        Args:
            device: Where the source is going to be.
        """
        if self.dtype == "auto":
            return self.half_precision if device.type == "cuda" else torch.float32
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def fingerprint(self) -> str:
        """The weights as they are in memory, what they are built into, and every option.

        Neither the folder nor the device is part of it. It is empty, so that nothing is cached,
        where something else has been put into the transformer: adapters, or processors of others.
        """
        if not _is_plain(self.transformer):
            return ""
        networks = [
            {name: config[name] for name in sorted(config) if not name.startswith("_")}
            for config in (self.vae.config, self.transformer.config, self._schedule.config)
        ]
        content = json.dumps([self._digest(self), *networks, self.extra_repr()], default=str)
        name = type(self).__name__
        return f"{name}-1({hashlib.sha256(content.encode()).hexdigest()})"

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return (
            f"noise_steps={self.noise_steps}, inference_steps={self.inference_steps}, "
            f"noise={self.noise}, latent={self.latent!r}, prompt={self.prompt!r}, "
            f"layers={self.layers}, average={self.average}, cross={self.cross}, "
            f"proposals={self.proposals!r}, normalise={self.normalise!r}, "
            f"image_size={self.image_size}, seed={self.seed}"
        )

    def _open(self, files: ModelFiles) -> Checkpoint:
        missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
        if missing:
            raise ComponentError(
                f"{type(self).__name__} needs {' and '.join(missing)}: pip install "
                "'diffsegkit[sd]'."
            )
        import diffusers

        from diffsegkit_mmdit.checkpoint import Checkpoint

        return Checkpoint(files, getattr(diffusers, self.transformer_class), self.family)

    def _all_layers(self, config: Mapping[str, Any]) -> list[str]:
        for key in (*self.blocks.values(), "joint_attention_dim", "in_channels"):
            number = config[key]
            if not isinstance(number, int) or number < (key == "num_layers"):
                raise WeightsError(
                    f"Expected the config.json of the transformer to have a whole number as "
                    f"{key}, but got {number!r}."
                )
        return [
            layer
            for name, key in self.blocks.items()
            for index in range(config[key])
            for layer in self._layers_of_block(name, index, config)
        ]

    def _choose_text_layers(self) -> list[str]:
        if not self.cross and self.proposals is None:
            return []
        joint = [name for name in self._layer_names if name.endswith(JOINT)]
        if not isinstance(self.cross, bool):
            return select_layers(joint, self.cross, "cross")
        chosen = [name for name in self._wanted if name in joint]
        if not chosen:
            raise ValueError(
                "Expected argument `layers` to hold a layer in which the image attends to the "
                f"text, for `cross` or `proposals`, but got {list(self.layers or ())}; give "
                "`cross` a list of layers."
            )
        return chosen

    def _check_text(self, config: Mapping[str, Any]) -> None:
        pooled, expected = self._pooled.shape[-1], config["pooled_projection_dim"]
        if pooled != expected:
            raise WeightsError(
                f"Expected a text encoder that gives a vector of {expected} dimensions for each "
                f"prompt, which the transformer reads, but it gives {pooled}; the parts are of "
                "different models."
            )

    def _check_latent(self) -> None:
        latent, taken = self.vae.config.latent_channels, self._latent_channels()
        if latent != taken:
            raise WeightsError(
                f"Expected a transformer that takes the {latent} channels of its VAE's latent, but "
                f"this one takes {taken}; models for inpainting or other inputs are not supported."
            )
        scaling = self.vae.config.scaling_factor
        if not isinstance(scaling, (int, float)) or not scaling > 0:
            raise WeightsError(
                "Expected the VAE's config.json to have a scaling_factor above 0, such as 1.5305, "
                f"but got {scaling!r}."
            )

    def _check_size(self, height: int, width: int) -> None:
        if height % self.size_multiple or width % self.size_multiple or 0 in (height, width):
            raise ValueError(
                f"Expected height and width to be multiples of {self.size_multiple} pixels, so "
                f"that every token is whole, but got {height}x{width}; a Segmenter resizes to "
                "that, and so does the argument `image_size`."
            )

    def _noisy_latents(self, images: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` in the transformer's dtype, and the timestep."""
        pixels = images.to(self.vae.dtype) * 2 - 1
        # On a CPU the encoder's activations are what needs memory.
        parts = torch.split(pixels, 1 if pixels.device.type == "cpu" else len(pixels))
        moments = torch.cat([self.vae.encode(part).latent_dist.parameters for part in parts])
        mean, log_variance = moments.float().chunk(2, dim=1)
        generators = [torch.Generator().manual_seed(self.seed) for _ in images]
        if self.latent == "sample":
            # The bounds are those of diffusers' distribution.
            deviation = torch.exp(0.5 * log_variance.clamp(-30, 20))
            mean = mean + deviation * _normal_like(mean, generators)
        shift = self.vae.config.shift_factor or 0
        latents: Tensor = (mean - shift) * self.vae.config.scaling_factor
        sigma, timestep = self._schedule.level(
            self.noise_steps, self.inference_steps, grid[0] * grid[1]
        )
        if self.noise:
            sigma = sigma.to(latents.device)
            latents = (1 - sigma) * latents + sigma * _normal_like(latents, generators)
        if not torch.isfinite(latents).all():
            raise ValueError(
                "The latent is not finite: the VAE overflows in float16 (then compute in float32 "
                "or bfloat16, with --dtype or the source's `dtype`), or its weights are damaged."
            )
        return latents.to(self._embeddings.dtype), timestep.to(latents.device)

    def _propose(self, text: Sequence[Tensor], grid: Grid, chosen: Tensor) -> list[Any]:
        mean = torch.stack(list(text)).mean(0)
        if not bool(chosen.any(1).all()):
            raise UsageError(
                "Expected every prompt to leave room for padding, which is what --source.proposals "
                "padding makes proposals of, but one fills all tokens; give a shorter prompt, or "
                "other proposals."
            )
        chosen = chosen.to(mean.device)
        return [
            token_proposals(own[:, tokens], grid, self.normalise)
            for own, tokens in zip(mean, chosen, strict=True)
        ]


def _cross(text: Sequence[Tensor], grid: Grid, average: bool) -> list[Tensor]:
    """``(B, T, h, w)``, of which every location's tokens sum to 1."""
    maps = [torch.stack(list(text)).mean(0)] if average else text
    shares = []
    for own in maps:
        total = own.sum(-1, keepdim=True)
        # Where the text has nothing at all, as may be in float32, no token has more than another.
        share = torch.where(total > 0, own / total, 1 / own.shape[-1])
        shares.append(rearrange(share, "b (h w) t -> b t h w", h=grid[0]))
    return shares


def _is_plain(transformer: nn.Module) -> bool:
    """Whether a transformer computes what its weights and configuration say, and nothing else."""
    own = all(
        type(module.processor).__module__.startswith("diffusers.")
        for module in transformer.modules()
        if hasattr(module, "processor")
    )
    return own and not any(hasattr(module, "lora_A") for module in transformer.modules())


def _normal_like(values: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise, each image's from its own generator, the same on every device."""
    noise = [torch.randn(values.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(values)


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    # Which error an absent device raises depends on how torch was built.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Expected argument `device` to be one that can be used here, but got {device!r}; "
            "`diffsegkit doctor` lists them."
        ) from error


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
    noise_steps: int, inference_steps: int, latent: str, image_size: int | None, dtype: str
) -> None:
    check_whole("inference_steps", inference_steps, 1, 1000)
    check_whole("noise_steps", noise_steps, 0, inference_steps)
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


def check_whole(name: str, value: object, lowest: int, highest: int) -> None:
    """Raise unless an argument is a whole number in a range.

    Args:
        name: What it is called.
        value: What was given.
        lowest: The least that is allowed.
        highest: The most.

    Raises:
        ValueError: If it is anything else.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not lowest <= value <= highest:  # type: ignore[operator]
        raise ValueError(
            f"Expected argument `{name}` to be a whole number from {lowest} to {highest}, but got "
            f"{value!r}."
        )


def _check_wanted(
    layers: Sequence[str | int] | None,
    cross: bool | Sequence[str | int],
    proposals: str | None,
    normalise: str,
    kinds: Sequence[str],
) -> None:
    no_others = isinstance(cross, bool)
    if layers is not None and (isinstance(layers, str) or (len(layers) == 0 and no_others)):
        raise ValueError(
            "Expected argument `layers` to be a list of blocks, names and name patterns, or None "
            f"for all, but got {layers!r}."
        )
    if not isinstance(cross, bool) and (isinstance(cross, str) or len(cross) == 0):
        raise ValueError(
            "Expected argument `cross` to be true, false, or a list of blocks, names and name "
            f"patterns, but got {cross!r}."
        )
    if proposals is not None and proposals not in kinds:
        raise ValueError(
            f"Expected argument `proposals` to be None or one of {tuple(kinds)}, but got "
            f"{proposals!r}."
        )
    if normalise not in get_args(Normalise):
        raise ValueError(
            f"Expected argument `normalise` to be one of {get_args(Normalise)}, but got "
            f"{normalise!r}."
        )
