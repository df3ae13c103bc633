"""Small models in the hub's layout: the files of one, not its arithmetic."""

import json

import numpy as np
from safetensors.numpy import save_file

from diffsegkit.weights import ComponentFiles, ModelFiles

COMPONENTS = (
    ComponentFiles("", None, required=(), wanted=("model_index.json",)),
    ComponentFiles("vae", "diffusion_pytorch_model"),
    ComponentFiles("unet", "diffusion_pytorch_model", tensors=("conv_in.weight",)),
    ComponentFiles("text_encoder", "model"),
    ComponentFiles("text_encoder_2", "model", optional=True),
    ComponentFiles(
        "tokenizer",
        required=(("tokenizer.json", "vocab.json"), ("tokenizer.json", "merges.txt")),
        wanted=("tokenizer_config.json",),
    ),
)
"""What a Stable Diffusion source needs."""

VIT = (ComponentFiles("", "model", wanted=("preprocessor_config.json",)),)
"""What a vision transformer needs."""


def pipeline(model, **options):
    return ModelFiles(str(model), COMPONENTS, **options)


def transformer(model, **options):
    return ModelFiles(str(model), VIT, **options)


def write_weights(path, *names, size=64):
    tensors = {name: np.full(size, index, np.float32) for index, name in enumerate(names)}
    save_file(tensors, path)


def write_shards(folder, stem, index, prefix, size=64):
    """Two shards and their index."""
    names = [f"{prefix}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, name in enumerate(names):
        write_weights(folder / name, f"conv_{number}.weight", size=size)
    tensors = {f"conv_{number}.weight": name for number, name in enumerate(names)}
    content = {"metadata": {"total_size": 8 * size}, "weight_map": tensors}
    (folder / index).write_text(json.dumps(content))
    return names


def write_pipeline(folder, variant=None, size=64):
    """A text-to-image pipeline with one text encoder, as diffusers saves it."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    middle = f".{variant}" if variant else ""
    stems = {
        "vae": ("diffusion_pytorch_model", "encoder.conv_in.bias"),
        "unet": ("diffusion_pytorch_model", "conv_in.weight"),
        "text_encoder": ("model", "text_model.embeddings.weight"),
    }
    for name, (stem, tensor) in stems.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps({"name": name}))
        write_weights(folder / name / f"{stem}{middle}.safetensors", tensor, size=size)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "vocab.json").write_text('{"a": 0}')
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    return folder


def write_transformer(folder, size=64):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "dinov2"}')
    (folder / "preprocessor_config.json").write_text("{}")
    write_weights(folder / "model.safetensors", "embeddings.cls_token", size=size)
    return folder
