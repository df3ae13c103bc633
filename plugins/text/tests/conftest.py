"""Tiny models in the layout of the hub, and captioners without any."""

import json
import warnings

import pytest
import torch


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def spread(model):
    """Weights far enough from zero that outputs differ."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return model.eval()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A CLIP with a tokenizer of letters."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(ord("a") + index) for index in range(26)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), ".</w>", "<|startoftext|>", "<|endoftext|>"]  # fmt: skip
    (folder / "vocab.json").write_text(
        json.dumps({word: index for index, word in enumerate(words)})
    )
    (folder / "merges.txt").write_text("#version: 0.2\n")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 40}))  # fmt: skip
    common = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**common, "vocab_size": len(words), "max_position_embeddings": 40, "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1},
        vision_config={**common, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread(transformers.CLIPModel(config)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory):
    """A BLIP with a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "cat", "dog", "on", "sofa", "the", "sky"]  # fmt: skip
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    common = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    config = transformers.BlipConfig(
        text_config={**common, "vocab_size": len(words), "encoder_hidden_size": 16, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 32},
        vision_config={**common, "image_size": 32, "patch_size": 8},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread(transformers.BlipForConditionalGeneration(config)).save_pretrained(folder)
    return folder
