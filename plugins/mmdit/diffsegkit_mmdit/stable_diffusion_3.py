"""Joint attention of Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from diffsegkit.errors import WeightsError
from diffsegkit.interfaces import Grid
from diffsegkit.weights import ComponentFiles, ModelFiles
from diffsegkit_mmdit.base import (
    CLIP,
    CLIP_TOKENIZER,
    DIFFUSION_MODEL,
    T5,
    T5_TOKENIZER,
    DType,
    JointAttentionSource,
    check_whole,
)
from diffsegkit_mmdit.capture import Projections, in_heads
from diffsegkit_mmdit.proposals import Normalise
from diffsegkit_mmdit.text import Condition, encode_clip_and_t5

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
"""Seg4Diff's model."""

Kind = Literal["clip", "padding", "all"]


class StableDiffusion3Source(JointAttentionSource):
    """Attention of the transformer of Stable Diffusion 3 or 3.5, image and text apart.

    Image and text are tokens of one sequence, and attend to each other in one softmax (Esser et
    al., 2024, section 4). A location's attention to the image alone is given as attention maps,
    each head divided by what it has of the image before the heads are averaged; its attention to
    the text as cross-attention, and, token by token, as proposals. The defaults are those of
    Seg4Diff's unsupervised segmentation: block 9, noise of 8 of 28 steps, the empty prompt, zeros
    in place of T5 (Kim et al., 2025, section 4 and appendix A.4; ``configs/eval_unsup.yaml`` and
    ``sd3_backbone.py`` in cvlab-kaist/Seg4Diff).

    Only what is needed is loaded: the autoencoder's encoder, the transformer up to the last wanted
    block, and, for as long as it takes to encode ``prompt``, the text encoders. Per-head maps exist
    in blocks only, see :func:`~diffsegkit.kernels.mean_attention`.

    Args:
        model: An id on the Hugging Face hub, or a folder in the layout of diffusers.
        revision: Branch, tag or commit on the hub.
        variant: Such as ``"fp16"``, for files of half the size where the model has them.
        t5: Whether the third text encoder is loaded, 4.8 billion parameters; otherwise its tokens
            are zeros, as in Seg4Diff.
        t5_length: How many tokens it has, beside the 77 of CLIP.
        noise_steps: How noisy the latent is: the noise that so many of the steps would take away,
            0 for none. The 8th timestep from the end of 28 is what Seg4Diff takes.
        inference_steps: How many steps there are from noise to image.
        noise: Whether the noise is added; otherwise ``noise_steps`` enters through the timestep's
            embedding alone, as in DiffSeg.
        latent: ``"mean"`` of the encoder's distribution, or a ``"sample"`` of it.
        prompt: What every image is conditioned on, unless prompts are given with the images.
        layers: Of which layers attention maps are given: numbers of blocks from 0 (negative ones
            from the end), names such as ``"transformer_blocks.9.attn"``, beginnings of names, and
            patterns. None for every block; an empty list for none, if ``cross`` is a list. SD 3.5
            medium has, in its first blocks, a second attention that does not see the text: it is
            called ``attn2``, and given by its name alone.
        average: Whether the layers are averaged as they come; otherwise each gives a map with its
            name, and its own cross-attention.
        cross: Whether attention from locations to the tokens of the text is given too: true for
            that of ``layers``, or a list of other layers.
        proposals: Of which tokens proposals are made (see :func:`.token_proposals`), from the
            layers of ``cross``: the 77 of ``"clip"``, as Seg4Diff does with the empty prompt, those
            that are ``"padding"``, or ``"all"``. None for no proposals.
        normalise: Over what a proposal's attention is stretched, ``"tokens"`` or ``"locations"``.
        image_size: Longer side in pixels to which images are brought before they are encoded;
            None takes them as they come, which is what a :class:`~diffsegkit.Segmenter`, with an
            ``image_size`` of its own, expects.
        seed: Of the noise and the sample. Every image gets the same, whatever its batch.
        dtype: What the weights are loaded in; ``"auto"`` is float32 on a CPU and float16 on a GPU.
            Logits and softmax are float32 always. The autoencoder stays in float32 where its
            configuration says that it overflows in float16.
        device: Where to load to; None leaves it to ``.to()``.

    Raises:
        ComponentError: If diffusers or transformers is not installed.
        WeightsError: If the model's files are missing, damaged, or of another kind.
        DownloadError: If the model has to be fetched and cannot be.
        ValueError: If an argument is out of range.

    Example:
        >>> from diffsegkit_mmdit import StableDiffusion3Source
        >>> files = StableDiffusion3Source.weights()
        >>> [component.folder for component in files.components][:3]
        ['', 'vae', 'transformer']
    """

    family: ClassVar[str] = "Stable Diffusion 3"
    transformer_class: ClassVar[str] = "SD3Transformer2DModel"
    blocks: ClassVar[Mapping[str, str]] = {"transformer_blocks": "num_layers"}
    evenly: ClassVar[bool] = False
    half_precision: ClassVar[torch.dtype] = torch.float16

    def __init__(
        self,
        model: str = SD3,
        *,
        revision: str | None = None,
        variant: str | None = None,
        t5: bool = False,
        t5_length: int = 77,
        noise_steps: int = 8,
        inference_steps: int = 28,
        noise: bool = True,
        latent: Literal["mean", "sample"] = "mean",
        prompt: str = "",
        layers: Sequence[str | int] | None = (9,),
        average: bool = True,
        cross: bool | Sequence[str | int] = False,
        proposals: Kind | None = None,
        normalise: Normalise = "tokens",
        image_size: int | None = None,
        seed: int = 0,
        dtype: DType = "auto",
        device: str | None = None,
    ) -> None:
        super().__init__()
        self._set_options(
            model,
            noise_steps=noise_steps,
            inference_steps=inference_steps,
            noise=noise,
            latent=latent,
            prompt=prompt,
            layers=layers,
            average=average,
            cross=cross,
            proposals=proposals,
            normalise=normalise,
            kinds=("clip", "padding", "all"),
            image_size=image_size,
            seed=seed,
            dtype=dtype,
        )
        check_whole("t5_length", t5_length, 1, 512)
        self.t5 = t5
        self.t5_length = t5_length
        self._load(self.weights(model, revision, variant, t5=t5), device)

    @classmethod
    def weights(
        cls,
        model: str = SD3,
        revision: str | None = None,
        variant: str | None = None,
        *,
        t5: bool = False,
        **_: Any,  # noqa: ANN401
    ) -> ModelFiles:
        """The files a source with these arguments loads; see the class.

        Args:
            model: Hub id or folder.
            revision: On the hub.
            variant: Such as ``"fp16"``.
            t5: Whether the third text encoder is needed.
        """
        third = (replace(T5, folder="text_encoder_3"), replace(T5_TOKENIZER, folder="tokenizer_3"))
        return ModelFiles(
            model,
            (
                ComponentFiles("", required=(), wanted=("model_index.json",)),
                ComponentFiles("vae", DIFFUSION_MODEL, tensors=("encoder.conv_in.weight",)),
                ComponentFiles("transformer", DIFFUSION_MODEL, tensors=("pos_embed.proj.weight",)),
                CLIP,
                CLIP_TOKENIZER,
                replace(CLIP, folder="text_encoder_2"),
                replace(CLIP_TOKENIZER, folder="tokenizer_2"),
                *(third if t5 else ()),
                ComponentFiles("scheduler", required=("scheduler_config.json",)),
            ),
            revision,
            variant,
        )

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"t5={self.t5}, t5_length={self.t5_length}, {super().extra_repr()}"

    def _encode(self, prompts: Sequence[str]) -> Condition:
        from transformers import CLIPTextModelWithProjection, T5EncoderModel

        if self._text_encoders is None:
            read = self._checkpoint.text_encoder
            self._text_encoders = [
                read(CLIPTextModelWithProjection, "text_encoder", torch.float32),
                read(CLIPTextModelWithProjection, "text_encoder_2", torch.float32),
                *([read(T5EncoderModel, "text_encoder_3", self._text_dtype)] if self.t5 else []),
            ]
        clips, t5 = self._text_encoders[:2], (*self._text_encoders[2:], None)[0]
        condition = encode_clip_and_t5(prompts, clips, t5, self.t5_length, self._width)
        self._clip_tokens = condition.embeddings.shape[1] - self.t5_length
        return condition

    def _project(
        self,
        attn: nn.Module,
        hidden: Tensor,
        text: Tensor | None,
        rotary: Any,  # noqa: ANN401, ARG002
    ) -> Projections:
        """As ``JointAttnProcessor2_0`` has it: positions are in the tokens, not here."""
        layer: Any = attn
        queries = in_heads(layer.to_q(hidden), layer.heads)
        keys = in_heads(layer.to_k(hidden), layer.heads)
        if layer.norm_q is not None:
            queries = layer.norm_q(queries)
        if layer.norm_k is not None:
            keys = layer.norm_k(keys)
        if text is None:
            return Projections(queries, keys, None)
        text_keys = in_heads(layer.add_k_proj(text), layer.heads)
        if layer.norm_added_k is not None:
            text_keys = layer.norm_added_k(text_keys)
        return Projections(queries, keys, text_keys)

    def _run(self, latents: Tensor, timestep: Tensor, embeddings: Tensor, pooled: Tensor) -> None:
        self.transformer(
            hidden_states=latents,
            timestep=timestep.expand(len(latents)),
            encoder_hidden_states=embeddings,
            pooled_projections=pooled,
            return_dict=False,
        )

    def _latent_channels(self) -> int:
        return int(self.transformer.config.in_channels)

    def _cells_per_token(self) -> int:
        return int(self.transformer.config.patch_size)

    def _layers_of_block(self, name: str, index: int, config: Mapping[str, Any]) -> list[str]:
        layers = super()._layers_of_block(name, index, config)
        dual = config["dual_attention_layers"]
        if not isinstance(dual, (list, tuple)):
            raise WeightsError(
                "Expected the config.json of the transformer to have a list as "
                f"dual_attention_layers, but got {dual!r}."
            )
        return [*layers, f"{name}.{index}.attn2"] if index in dual else layers

    def _proposal_tokens(self, padding: Tensor) -> Tensor:
        chosen = super()._proposal_tokens(padding)
        if self.proposals == "clip":
            chosen = chosen.clone()
            chosen[:, self._clip_tokens :] = False
        return chosen

    def _check_grid(self, grid: Grid) -> None:
        limit = self.transformer.config.pos_embed_max_size
        if limit is not None and max(grid) > limit:
            raise ValueError(
                f"Expected images of at most {limit * self.size_multiple} pixels a side, for which "
                f"this model has positions, but got {grid[0] * self.size_multiple}x"
                f"{grid[1] * self.size_multiple}; a Segmenter resizes with `image_size`."
            )
