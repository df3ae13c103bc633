"""The configurations of a single file, when they are on the hub."""

from diffsegkit.sources import StableDiffusionSource
from diffsegkit.sources.stable_diffusion.configurations import find_configurations
from tests.sources.pipelines import make_pipeline
from tests.sources.single_files import write_single_file


def test_no_weights_are_fetched(hub, tmp_path):
    served = hub.models["owner/sdxl"] = make_pipeline(tmp_path / "sdxl", "sdxl")
    folder = find_configurations("owner/sdxl")
    networks = ("unet", "vae", "text_encoder", "text_encoder_2")
    # What a text is padded with stands in the last two of a tokenizer's files.
    files = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
    tokenizers = {f"{name}/{file}" for name in ("tokenizer", "tokenizer_2") for file in files}
    needed = {f"{name}/config.json" for name in networks} | tokenizers
    needed |= {"scheduler/scheduler_config.json"}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - {"model_index.json"} == needed
    path = write_single_file(tmp_path / "x.safetensors", served)
    hub.log.clear()
    file = StableDiffusionSource(str(path), config="owner/sdxl", prompt="a cat", noise=True)
    assert hub.fetched() == []
    same = StableDiffusionSource(str(served), prompt="a cat", noise=True)
    assert file.fingerprint() == same.fingerprint()
