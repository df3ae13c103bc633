"""Stable Diffusion as one would run it for its attention: every head's map of every layer kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffsegkit.interfaces import AttentionMap, SourceOutput

_TIMESTEP = 300
_TOKENS = 77


def attention_of(
    folder: Path, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], SourceOutput]:
    """Load all parts.

    Args:
        folder: In the layout of diffusers.
        device: Where to.
        dtype: Of the weights.

    Returns:
        A function from images ``(B, 3, H, W)`` in [0, 1] to the maps of all layers, averaged over
        heads at the end.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    vae = _load(AutoencoderKL, folder, "vae", device, dtype)
    unet = _load(UNet2DConditionModel, folder, "unet", device, dtype)
    text_encoder = _load(CLIPTextModel, folder, "text_encoder", device, dtype)
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    length = text_encoder.config.max_position_embeddings
    tokens = tokenizer([""], padding="max_length", max_length=length, return_tensors="pt")
    keeping = _Keeping()
    unet.set_attn_processor(keeping)

    def run(images: Tensor) -> SourceOutput:
        keeping.maps.clear()
        context = text_encoder(tokens["input_ids"].to(device)).last_hidden_state
        latents = vae.encode(images.to(dtype) * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        unet(latents, _TIMESTEP, context.expand(len(images), -1, -1))
        layers = [each.reshape(len(images), -1, *each.shape[1:]).mean(1) for each in keeping.maps]
        return SourceOutput([AttentionMap(probs.float(), _grid(probs)) for probs in layers])

    return run


def bare_pass(folder: Path, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Load the VAE and the UNet, and look at nothing inside them: the floor of any extraction.

    Args:
        folder: In the layout of diffusers.
        device: Where to.
        dtype: Of the weights.

    Returns:
        A function from images ``(B, 3, H, W)`` in [0, 1] to what the UNet predicts.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = _load(AutoencoderKL, folder, "vae", device, dtype)
    unet = _load(UNet2DConditionModel, folder, "unet", device, dtype)
    shape = (1, _TOKENS, unet.config.cross_attention_dim)
    context = torch.zeros(shape, device=device, dtype=dtype)

    def run(images: Tensor) -> Tensor:
        latents = vae.encode(images.to(dtype) * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        predicted: Tensor = unet(latents, _TIMESTEP, context.expand(len(images), -1, -1)).sample
        return predicted

    return run


class _Keeping:
    """An attention processor that keeps the probabilities of self-attention."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def __call__(
        self,
        attn: Any,  # noqa: ANN401
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        q, k, v = (attn.head_to_batch_dim(each) for each in (q, k, v))
        probs = attn.get_attention_scores(q, k, attention_mask)
        if encoder_hidden_states is None:
            self.maps.append(probs)
        output: Tensor = attn.to_out[0](attn.batch_to_head_dim(probs @ v))
        return output


def _load(
    model_class: Any,  # noqa: ANN401
    folder: Path,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:  # noqa: ANN401
    from diffsegkit.sources.networks import frozen, reading

    with reading(folder / name):
        model: nn.Module = model_class.from_pretrained(folder, subfolder=name, dtype=dtype)
    return frozen(model.to(device))


def _grid(probs: Tensor) -> tuple[int, int]:
    side = round(probs.shape[1] ** 0.5)
    return side, side
