"""Stable Diffusion 1.4's attention of one photo, beside a run that materialises every map.

The architecture is the real one (859.5 million parameters in the UNet), its weights are random:
time and memory do not depend on them. Each contender runs in processes of its own, in turn. What
is reported is the time after loading, and the peak of resident memory beyond the weights, Python
and its libraries included.

    python experiments/benchmarks/stable_diffusion.py [--model FOLDER] [--rounds 3]
"""

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import torch
from torch.nn import functional

from diffsegkit import AttentionMap, Segmenter, SourceOutput, __version__


def write_folder(folder):
    """Write SD 1.4's architecture with random weights, in the official layout; 4 GB.

    Args:
        folder: Where to.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = Path(str(files("diffsegkit.sources.stable_diffusion"))) / "configs" / "sd1"
    torch.manual_seed(0)
    for model_class, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        model = model_class.from_config(model_class.load_config(configs, subfolder=name))
        model.save_pretrained(folder / name)
    CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder")).save_pretrained(
        folder / "text_encoder"
    )
    shutil.copytree(configs / "scheduler", folder / "scheduler")
    _write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def _write_tokenizer(folder):
    """As many tokens as CLIP has, its two marks in their places, and nothing to merge."""
    folder.mkdir(parents=True)
    begin, end = "<|startoftext|>", "<|endoftext|>"
    vocabulary = {f"token{index}</w>": index for index in range(49406)}
    vocabulary |= {begin: 49406, end: 49407}
    marks = {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": end}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**marks, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )


def photo():
    """(1, 3, 512, 512), in [0, 1]."""
    return torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))


def diffsegkit(folder):
    """This package: load, then segment."""
    segmenter = Segmenter.from_preset("diffseg-sd14", source={"model": str(folder)})
    return lambda: segmenter(photo())


def materialised(folder):
    """The obvious way: all parts loaded, every head's map kept, the mean taken at the end."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    tokens = tokenizer([""], padding="max_length", max_length=77, return_tensors="pt")
    kept = []

    class Keeping:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
            text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            q, k, v = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
            q, k, v = (attn.head_to_batch_dim(each) for each in (q, k, v))
            probs = attn.get_attention_scores(q, k, attention_mask)
            if encoder_hidden_states is None:
                kept.append(probs)
            return attn.to_out[0](attn.batch_to_head_dim(probs @ v))

    unet.set_attn_processor(Keeping())
    rest = Segmenter.from_preset("diffseg", source="AffinitySource")

    def run():
        kept.clear()
        context = text_encoder(tokens["input_ids"]).last_hidden_state
        latent = vae.encode(photo() * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        unet(latent, 300, context)
        maps = []
        for probs in kept:
            side = {4096: 64, 1024: 32, 256: 16, 64: 8}[probs.shape[1]]
            maps.append(AttentionMap(probs.mean(0, keepdim=True), (side, side)))
        proposals = rest.merge(rest.aggregate(SourceOutput(maps)))
        upsampled = functional.interpolate(
            proposals[0].maps[None], size=(512, 512), mode="bilinear"
        )
        return upsampled.argmax(1)

    return run


CONTENDERS = {"diffsegkit": diffsegkit, "materialised": materialised}


def weights_in_mib(folder):
    """What diffsegkit keeps of the files in memory: the UNet and the VAE's encoder, float32."""
    from diffsegkit.sources import StableDiffusionSource

    source = StableDiffusionSource(str(folder))
    return sum(each.numel() * each.element_size() for each in source.parameters()) / 2**20


def measure(name, folder):
    """Seconds of the second run, and MiB at the peak, in this process."""
    run = CONTENDERS[name](folder)
    with torch.no_grad():
        run()  # reads the weights from the disk
        start = time.perf_counter()
        run()
    seconds = time.perf_counter() - start
    # Not getrusage, which begins with what the parent had.
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    print(json.dumps({"seconds": seconds, "mib": peak}))


def main():
    """Run every contender in turn and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a folder; random weights by default")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contender")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.model)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or Path(temporary)
        if arguments.model is None:
            write_folder(folder)
        report(folder, arguments.rounds)


def report(folder, rounds):
    """Measure and print, ratios first."""
    rows = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, found in rows.items():
            command = [sys.executable, __file__, "--model", str(folder), "--measure", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output.splitlines()[-1]))
    weights = weights_in_mib(folder)
    seconds = {name: [row["seconds"] for row in found] for name, found in rows.items()}
    beyond = {name: max(row["mib"] for row in found) - weights for name, found in rows.items()}
    ours = statistics.median(seconds["diffsegkit"])
    for name in rows:
        print(
            f"diffsegkit / {name}: {ours / statistics.median(seconds[name]):.2f} of the time, "
            f"{beyond['diffsegkit'] / beyond[name]:.2f} of the memory beyond the weights"
        )
    for name in rows:
        times = ", ".join(f"{each:.1f}" for each in sorted(seconds[name]))
        print(f"{name}: {times} s; {beyond[name]:.0f} MiB beyond {weights:.0f} MiB of weights")
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, diffsegkit {__version__}"
    )


if __name__ == "__main__":
    main()
