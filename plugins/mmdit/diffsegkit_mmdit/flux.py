"""Joint attention of FLUX.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

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
from diffsegkit_mmdit.text import Condition, encode_t5

SCHNELL = "black-forest-labs/FLUX.1-schnell"
"""The one under the Apache licence."""

Kind = Literal["padding", "all"]


class FluxSource(JointAttentionSource):
    """Attention of the transformer of FLUX.1 [schnell] or [dev], image and text apart.

    As :class:`StableDiffusion3Source`, with FLUX's differences: 19 blocks in which image and text
    have projections of their own, then 38 in which they share them; positions by rotation of
    queries and keys; tokens of 2 x 2 cells of the latent; the text is T5's, and CLIP gives one
    vector for the whole prompt.

    Only what is needed is loaded: the autoencoder's encoder, the transformer up to the last wanted
    block (with the default layers 19 blocks of 57), and, for as long as it takes to encode
    ``prompt``, the text encoders.

    Args:
        model: An id on the Hugging Face hub, or a folder in the layout of diffusers.
        revision: Branch, tag or commit on the hub.
        variant: Such as ``"fp16"``, where the model has such files.
        guidance: What the strength of guidance is said to be, to models that were distilled with
            it ([dev]); others ([schnell]) do not look at it.
        t5_length: How many tokens the text has: at most 256 for [schnell], 512 for [dev].
        noise_steps: How noisy the latent is: the noise that so many of the steps would take away,
            0 for none. The steps are those of the model's pipeline; [dev] has more noise in larger
            images.
        inference_steps: How many steps there are from noise to image.
        noise: Whether the noise is added; otherwise ``noise_steps`` enters through the timestep's
            embedding alone, as in DiffSeg.
        latent: ``"mean"`` of the encoder's distribution, or a ``"sample"`` of it.
        prompt: What every image is conditioned on, unless prompts are given with the images.
        layers: Of which layers attention maps are given: numbers of blocks from 0, those that
            share their projections coming after the others (negative ones from the end); names such
            as ``"single_transformer_blocks.0.attn"``, beginnings of names, and patterns. None for
            every block; an empty list for none, if ``cross`` is a list. The default, 15 to 18, is
            where ConceptAttention finds its maps (Helbling et al., 2025, in its code).
        average: Whether the layers are averaged as they come; otherwise each gives a map with its
            name, and its own cross-attention.
        cross: Whether attention from locations to the tokens of the text is given too: true for
            that of ``layers``, or a list of other layers.
        proposals: Of which tokens proposals are made (see :func:`.token_proposals`), from the
            layers of ``cross``: those that are ``"padding"``, or ``"all"``. None for no proposals.
        normalise: Over what a proposal's attention is stretched, ``"tokens"`` or ``"locations"``.
        image_size: Longer side in pixels to which images are brought before they are encoded;
            None takes them as they come.
        seed: Of the noise and the sample. Every image gets the same, whatever its batch.
        dtype: What the weights are loaded in; ``"auto"`` is float32 on a CPU and bfloat16 on a
            GPU. Logits and softmax are float32 always.
        device: Where to load to; None leaves it to ``.to()``.

    Raises:
        ComponentError: If diffusers or transformers is not installed.
        WeightsError: If the model's files are missing, damaged, or of another kind.
        DownloadError: If the model has to be fetched and cannot be.
        ValueError: If an argument is out of range.

    Example:
        >>> from diffsegkit_mmdit import FluxSource
        >>> files = FluxSource.weights()
        >>> [component.folder for component in files.components][3:]
        ['text_encoder', 'tokenizer', 'text_encoder_2', 'tokenizer_2', 'scheduler']
    """

    family: ClassVar[str] = "FLUX.1"
    transformer_class: ClassVar[str] = "FluxTransformer2DModel"
    blocks: ClassVar[Mapping[str, str]] = {
        "transformer_blocks": "num_layers",
        "single_transformer_blocks": "num_single_layers",
    }
    evenly: ClassVar[bool] = True
    half_precision: ClassVar[torch.dtype] = torch.bfloat16

    def __init__(
        self,
        model: str = SCHNELL,
        *,
        revision: str | None = None,
        variant: str | None = None,
        guidance: float = 3.5,
        t5_length: int = 256,
        noise_steps: int = 8,
        inference_steps: int = 28,
        noise: bool = True,
        latent: Literal["mean", "sample"] = "mean",
        prompt: str = "",
        layers: Sequence[str | int] | None = (15, 16, 17, 18),
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
            kinds=("padding", "all"),
            image_size=image_size,
            seed=seed,
            dtype=dtype,
        )
        check_whole("t5_length", t5_length, 1, 512)
        if not (isinstance(guidance, (int, float)) and isfinite(guidance) and guidance >= 0):
            raise ValueError(
                f"Expected argument `guidance` to be a number from 0 on, but got {guidance!r}."
            )
        self.guidance = float(guidance)
        self.t5_length = t5_length
        self._load(self.weights(model, revision, variant), device)

    @classmethod
    def weights(
        cls,
        model: str = SCHNELL,
        revision: str | None = None,
        variant: str | None = None,
        **_: Any,  # noqa: ANN401
    ) -> ModelFiles:
        """The files a source with these arguments loads; see the class.

        Args:
            model: Hub id or folder.
            revision: On the hub.
            variant: Such as ``"fp16"``.
        """
        return ModelFiles(
            model,
            (
                ComponentFiles("", required=(), wanted=("model_index.json",)),
                ComponentFiles("vae", DIFFUSION_MODEL, tensors=("encoder.conv_in.weight",)),
                ComponentFiles("transformer", DIFFUSION_MODEL, tensors=("x_embedder.weight",)),
                CLIP,
                CLIP_TOKENIZER,
                replace(T5, folder="text_encoder_2"),
                replace(T5_TOKENIZER, folder="tokenizer_2"),
                ComponentFiles("scheduler", required=("scheduler_config.json",)),
            ),
            revision,
            variant,
        )

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return f"guidance={self.guidance}, t5_length={self.t5_length}, {super().extra_repr()}"

    def _encode(self, prompts: Sequence[str]) -> Condition:
        from transformers import CLIPTextModel, T5EncoderModel

        if self._text_encoders is None:
            read = self._checkpoint.text_encoder
            self._text_encoders = [
                read(CLIPTextModel, "text_encoder", torch.float32),
                read(T5EncoderModel, "text_encoder_2", self._text_dtype),
            ]
        clip, t5 = self._text_encoders
        return encode_t5(prompts, clip, t5, self.t5_length, self._width)

    def _project(
        self,
        attn: nn.Module,
        hidden: Tensor,
        text: Tensor | None,
        rotary: Any,  # noqa: ANN401
    ) -> Projections:
        """As ``FluxAttnProcessor`` has it: text before image, rotated after both are one."""
        from diffusers.models.embeddings import apply_rotary_emb

        layer: Any = attn
        if text is None:
            # In these blocks image and text come as one, and share the projections.
            length = self.t5_length
            text, hidden = hidden[:, :length], hidden[:, length:]
            text_keys = layer.norm_k(in_heads(layer.to_k(text), layer.heads))
        else:
            text_keys = layer.norm_added_k(in_heads(layer.add_k_proj(text), layer.heads))
        queries = layer.norm_q(in_heads(layer.to_q(hidden), layer.heads))
        keys = layer.norm_k(in_heads(layer.to_k(hidden), layer.heads))
        of_text = tuple(part[: text.shape[1]] for part in rotary)
        of_image = tuple(part[text.shape[1] :] for part in rotary)
        return Projections(
            apply_rotary_emb(queries, of_image),
            apply_rotary_emb(keys, of_image),
            apply_rotary_emb(text_keys, of_text),
        )

    def _run(self, latents: Tensor, timestep: Tensor, embeddings: Tensor, pooled: Tensor) -> None:
        height, width = latents.shape[2] // 2, latents.shape[3] // 2
        # A token's position is its row and column; every token of the text is at 0, 0.
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((len(latents),), self.guidance, device=latents.device)
        self.transformer(
            hidden_states=rearrange(
                latents, "b c (h p) (w q) -> b (h w) (c p q)", h=height, w=width
            ),
            # As in the pipeline: rounded to the transformer's dtype, in thousandths.
            timestep=timestep.expand(len(latents)).to(latents.dtype) / 1000,
            guidance=guidance,
            encoder_hidden_states=embeddings,
            pooled_projections=pooled,
            img_ids=places.float().to(latents.device),
            txt_ids=torch.zeros(embeddings.shape[1], 3, device=latents.device),
            return_dict=False,
        )

    def _latent_channels(self) -> int:
        channels: int = self.transformer.config.in_channels
        return channels // 4
