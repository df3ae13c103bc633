"""Attention by diffusers' own pipelines, and float64 arithmetic on what they really compare."""

from functools import cache
from types import SimpleNamespace

import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

from diffsegkit_mmdit import FluxSource, StableDiffusion3Source


def photos(count, height, width, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def is_flux(family):
    return family in ("schnell", "dev")


def make_source(pipelines, family, **options):
    """A source of the family on its tiny pipeline, with few tokens of T5."""
    source_class = FluxSource if is_flux(family) else StableDiffusion3Source
    options = {"t5_length": 9, "layers": None} | options
    return source_class(str(pipelines[family]), **options)


@cache
def pipeline_of(folder, family, t5):
    """diffusers' own pipeline; Stable Diffusion 3 without T5 if it is not wanted."""
    if is_flux(family):
        return FluxPipeline.from_pretrained(folder)
    without = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    return StableDiffusion3Pipeline.from_pretrained(folder, **without)


def run_pipeline(folder, family, images, options, prompts=None):
    """Run the transformer once with everything but the noise made by diffusers.

    Args:
        folder: Of the pipeline.
        family: One of the tiny ones.
        images: ``(B, 3, H, W)``.
        options: Those of the source.
        prompts: One per image.

    Returns:
        ``inputs``, what the transformer was given; ``compared``, queries and keys of each call of
        PyTorch's attention, in order; ``text``, the number of the text's tokens.
    """
    prompts = prompts or [options.get("prompt", "")] * len(images)
    length = options.get("t5_length", 9)
    pipe = pipeline_of(folder, family, bool(options.get("t5")))
    if is_flux(family):
        embeddings, pooled, _ = pipe.encode_prompt(
            prompts, device="cpu", max_sequence_length=length
        )
    else:
        embeddings, _, pooled, _ = pipe.encode_prompt(
            prompts, None, None, device="cpu", do_classifier_free_guidance=False,
            max_sequence_length=length,
        )  # fmt: skip
    vae, seed = pipe.vae, options.get("seed", 0)
    with torch.no_grad():
        distribution = vae.encode(2 * images - 1).latent_dist
    generator = torch.Generator().manual_seed(seed)
    latents = distribution.mean
    if options.get("latent") == "sample":
        latents = latents + distribution.std * torch.randn(latents.shape[1:], generator=generator)
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    height, width = latents.shape[2] // 2, latents.shape[3] // 2
    steps, sigmas = options.get("inference_steps", 28), None
    if is_flux(family):
        # What FluxPipeline passes when nobody gives it any.
        sigmas = [1 + (1 / steps - 1) * step / max(1, steps - 1) for step in range(steps)]
    mu = calculate_shift(height * width) if pipe.scheduler.config.use_dynamic_shifting else None
    timesteps, _ = retrieve_timesteps(pipe.scheduler, steps, "cpu", sigmas=sigmas, mu=mu)
    timestep = timesteps[-options.get("noise_steps", 8)]
    if options.get("noise", True):
        noise = torch.randn(latents.shape[1:], generator=generator).expand_as(latents)
        latents = pipe.scheduler.scale_noise(latents, timestep[None], noise)
    inputs = {
        "encoder_hidden_states": embeddings,
        "pooled_projections": pooled,
        "timestep": timestep.expand(len(images)),
        "hidden_states": latents,
        "return_dict": False,
    }
    if is_flux(family):
        dev = pipe.transformer.config.guidance_embeds
        inputs |= {
            "hidden_states": pipe._pack_latents(latents, *latents.shape),
            "timestep": timestep.expand(len(images)) / 1000,
            "guidance": torch.full((len(images),), options.get("guidance", 3.5)) if dev else None,
            "img_ids": pipe._prepare_latent_image_ids(
                len(images), height, width, "cpu", torch.float32
            ),
            "txt_ids": torch.zeros(embeddings.shape[1], 3),
        }
    compared = compare(lambda: pipe.transformer(**inputs))
    return SimpleNamespace(inputs=inputs, compared=compared, text=embeddings.shape[1])


def compare(call):
    """The queries and keys ``(B, H, S, d)`` of every call of PyTorch's attention."""
    compared, own = [], torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, *args, **kwargs):
        compared.append((query.detach().double(), key.detach().double()))
        return own(query, key, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = spy
    try:
        with torch.no_grad():
            call()
    finally:
        torch.nn.functional.scaled_dot_product_attention = own
    return compared


def dense(query, key, family, text):
    """Attention of the image's tokens in float64, by hand: to the image, and to the text.

    Returns:
        ``(B, N, N)``, each head's rows divided by their sum over the image before the mean over
        heads; ``(B, N, T)``, the mean over heads of what they have of the text.
    """
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    joint = weights / weights.sum(-1, keepdim=True)
    # Stable Diffusion 3 has the image first, FLUX the text.
    size = joint.shape[-1]
    image = slice(text, size) if is_flux(family) else slice(0, size - text)
    words = slice(0, text) if is_flux(family) else slice(size - text, size)
    to_image = joint[:, :, image, image]
    to_image = to_image / to_image.sum(-1, keepdim=True)
    return to_image.mean(1), joint[:, :, image, words].mean(1)
