"""Tiny random vision transformers, saved as their publishers lay them out."""

import warnings

import torch

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def build(family, **changes):
    """A model of a family, with weights far enough from zero that attention is not even."""
    import transformers

    options = SIZES | changes
    if family == "clip":
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
        config = transformers.CLIPConfig(vision_config=options, text_config=text)
        model_class = transformers.CLIPModel
    elif family == "clip_vision_model":
        config = transformers.CLIPVisionConfig(**options)
        model_class = transformers.CLIPVisionModel
    else:
        names = {
            "dinov2": ("Dinov2Config", "Dinov2Model"),
            "dinov2_with_registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel"),
            "dinov3_vit": ("DINOv3ViTConfig", "DINOv3ViTModel"),
            "vit": ("ViTConfig", "ViTForImageClassification"),
            "vit_mae": ("ViTMAEConfig", "ViTMAEForPreTraining"),
        }[family]
        if family == "vit_mae":
            options |= {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 8}  # fmt: skip
        if family.startswith("dinov2"):
            options["mlp_ratio"] = options.pop("intermediate_size") // options["hidden_size"] + 1
        if family in ("dinov2_with_registers", "dinov3_vit"):
            options["num_register_tokens"] = 4
        config = getattr(transformers, names[0])(**options)
        model_class = getattr(transformers, names[1])
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.4 if parameter.ndim > 1 else 0.1
            noise = spread * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return model


def save(model, folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder, **options)
    return folder


def tower(model):
    """The part of it that has the layers in question: without decoder, head and text."""
    for name in ("vision_model", "vit"):
        model = getattr(model, name, model)
    return model


def projections(model, family):
    """Of each layer its q, k and v projections, found by their names alone."""
    found = {}
    for name, module in tower(model).named_modules():
        if name.endswith(("q_proj", "k_proj", "v_proj")) and "decoder" not in name:
            found.setdefault(name[: -len(".q_proj")], {})[name[-6]] = module
    return list(found.values())
