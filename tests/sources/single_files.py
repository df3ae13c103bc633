"""Stable Diffusion in one file, in the layout of its publishers, out of a folder of diffusers.

Written from the modules of CompVis' and Stability AI's code (``UNetModel``, ``AutoencoderKL`` with
``Encoder`` and ``Decoder``) and of OpenCLIP (``nn.MultiheadAttention``), so that whoever reads the
file back is checked against something other than itself. Tensors may be on the meta device.
"""

import json
import math
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

UNET = "model.diffusion_model."
VAE = "first_stage_model."
# An original's ResBlock is two Sequentials, each of normalisation, activation, (dropout,) convolution.
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_RESBLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def write_single_file(path, folder, *, dtype=None, change=None):
    """Write a pipeline's folder as one file, beside what else such files carry.

    Args:
        path: Where to.
        folder: Of :func:`tests.sources.pipelines.make_pipeline`.
        dtype: Of the floating-point tensors; None for the folder's.
        change: Takes the tensors by name, and may change them.
    """
    folder = Path(folder)
    parts = {
        name: load_file(next((folder / name).glob("*.safetensors")))
        for name in ("unet", "vae", "text_encoder", "text_encoder_2")
        if (folder / name).is_dir()
    }
    unet = json.loads((folder / "unet" / "config.json").read_text())
    tensors = original(parts, unet)
    if dtype is not None:
        tensors = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    if change is not None:
        change(tensors)
    # The file's tensors share no storage.
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return Path(path)


def write_hollow_file(path, tensors):
    """Write tensors of zeros that take no room on the disk, whatever their size.

    Args:
        path: Where to.
        tensors: By name, also on the meta device, float32 or int64.
    """
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": kinds[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return Path(path)


def original(parts, unet_config):
    """The tensors of a pipeline under their publishers' names.

    Args:
        parts: The state of each component, by its name in diffusers.
        unet_config: The UNet's configuration.
    """
    tensors = {"alphas_cumprod": torch.ones(1000), "model_ema.num_updates": torch.tensor(7)}
    tensors |= {
        UNET + name: tensor
        for name, tensor in original_unet(parts["unet"], unet_config["layers_per_block"]).items()
    }
    tensors |= {VAE + name: tensor for name, tensor in original_vae(parts["vae"]).items()}
    text = original_clip(parts["text_encoder"])
    if "text_encoder_2" in parts:
        second = original_open_clip(parts["text_encoder_2"])
        tensors |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in text.items()}
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in second.items()}
    elif unet_config.get("use_linear_projection"):
        text = original_open_clip(parts["text_encoder"], further_layer=True)
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in text.items()}
    else:
        tensors |= {f"cond_stage_model.transformer.{k}": v for k, v in text.items()}
    return tensors


def original_unet(tensors, layers):
    """The UNet's tensors as ``UNetModel`` names them.

    Its ``input_blocks`` are a convolution, and then, level by level, the layers and (but at the
    last) what halves the grid; its ``output_blocks`` are the layers of the way up, one more in a
    level, of which the last of a level also holds what doubles the grid, behind the attention if
    there is one.

    Args:
        tensors: By diffusers' names.
        layers: How many residual blocks a level of the way down has.
    """
    with_attention = {name.split(".")[1] for name in tensors if re.match(r"up.*attentions", name)}
    renamed = {}
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        match = re.match(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.+)", stem)
        if match is None:
            renamed[f"{_ENDS[stem]}.{kind}"] = tensor
            continue
        way, block, what, index, rest = match.groups()
        index = int(index)
        if way == "mid":
            # Residual block, attention, residual block.
            place = f"middle_block.{2 * index if what == 'resnets' else 1}"
        elif what == "downsamplers":
            place, rest = f"input_blocks.{(int(block) + 1) * (layers + 1)}.0", "op"
        elif what == "upsamplers":
            place = f"output_blocks.{int(block) * (layers + 1) + layers}"
            place += ".2" if block in with_attention else ".1"
        else:
            number = int(block) * (layers + 1) + index
            number, side = (number + 1, "input") if way == "down" else (number, "output")
            place = f"{side}_blocks.{number}.{0 if what == 'resnets' else 1}"
        if what == "resnets":
            rest = _RESIDUAL[rest]
        renamed[f"{place}.{rest}.{kind}"] = tensor
    assert len(renamed) == len(tensors)
    return renamed


def original_vae(tensors):
    """The autoencoder's tensors as CompVis names them; its attention is convolutions of 1x1.

    The decoder counts its levels from the finest, as the encoder does, and not as it runs.

    Args:
        tensors: By diffusers' names.
    """
    blocks = [re.match(r"decoder\.up_blocks\.(\d+)", name) for name in tensors]
    last = max((int(match[1]) for match in blocks if match), default=0)
    renamed = {}
    for name, tensor in tensors.items():
        if match := re.match(r"(.+\.mid_block)\.attentions\.0\.(.+)\.(\w+)$", name):
            stem, part, kind = match.groups()
            place = f"{stem.replace('mid_block', 'mid.attn_1')}.{_ATTENTION[part]}.{kind}"
            renamed[place] = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
            continue
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(
            r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{last - int(match[1])}.block", name
        )
        name = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda match: f"up.{last - int(match[1])}.upsample",
            name,
        )
        name = re.sub(
            r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name
        )
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        renamed[name] = tensor
    assert len(renamed) == len(tensors)
    return renamed


def original_clip(tensors):
    """OpenAI's CLIP as transformers once saved it: with a prefix, and the positions' numbers.

    Args:
        tensors: By transformers' names, with or without the prefix.
    """
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    length = len(bare["embeddings.position_embedding.weight"])
    return {
        **{f"text_model.{name}": tensor for name, tensor in bare.items()},
        "text_model.embeddings.position_ids": torch.arange(length)[None],
    }


def original_open_clip(tensors, further_layer=False):
    """OpenCLIP's text transformer: one matrix for queries, keys and values, in that order.

    Args:
        tensors: By transformers' names, with or without the prefix.
        further_layer: Whether the file has one layer more than is used, and a projection: SD 2.x
            takes what comes before the last layer.
    """
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    renamed = {
        "token_embedding.weight": bare.pop("embeddings.token_embedding.weight"),
        "positional_embedding": bare.pop("embeddings.position_embedding.weight"),
        "ln_final.weight": bare.pop("final_layer_norm.weight"),
        "ln_final.bias": bare.pop("final_layer_norm.bias"),
        "logit_scale": torch.tensor(math.log(100)),
    }
    width = renamed["token_embedding.weight"].shape[1]
    # It multiplies from the right, where a linear layer's weight is transposed.
    projection = bare.pop("text_projection.weight", None)
    if projection is not None:
        renamed["text_projection"] = projection.T
    layers = 1 + max(int(name.split(".")[2]) for name in bare)
    for name, tensor in bare.items():
        _, _, index, part, kind = re.fullmatch(
            r"(encoder)\.(layers)\.(\d+)\.(.+)\.(\w+)", name
        ).groups()
        place = f"transformer.resblocks.{index}"
        if part in _RESBLOCK:
            renamed[f"{place}.{_RESBLOCK[part]}.{kind}"] = tensor
        elif part == "self_attn.q_proj":
            stem = f"encoder.layers.{index}.self_attn"
            stacked = [bare[f"{stem}.{which}_proj.{kind}"] for which in "qkv"]
            renamed[f"{place}.attn.in_proj_{kind}"] = torch.cat(stacked)
        else:
            assert part in ("self_attn.k_proj", "self_attn.v_proj"), name
    if further_layer:
        first = {k: v for k, v in renamed.items() if k.startswith("transformer.resblocks.0.")}
        for name, tensor in first.items():
            renamed[name.replace(".0.", f".{layers}.", 1)] = torch.rand_like(tensor)
        renamed["text_projection"] = torch.rand_like(renamed["token_embedding.weight"][:width])
    return renamed
