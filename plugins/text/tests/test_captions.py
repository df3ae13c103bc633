"""Captions as prompts, with BLIP and without."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import AttentionMap, AttentionSource, Segmenter, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.errors import DownloadError, WeightsError
from diffsegkit.interfaces import TokenisedPrompt
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit_text import BLIPCaptioner, CaptionedSource, Captioner, CrossAttentionNamer


class Brightness(Captioner):
    """Says whether it is day or night."""

    def forward(self, images):
        return ["a sun over sand" if image.mean() > 0.5 else "a moon over sand" for image in images]

    def fingerprint(self):
        return "brightness"


class Halves(AttentionSource):
    """Upper and lower half attend to themselves, and to the second and the last word."""

    size_multiple = 4

    def forward(self, images, *, prompts=None):
        batch, _, height, width = images.shape
        h, w = height // 4, width // 4
        half = (torch.arange(h) >= h // 2).long().repeat_interleave(w)
        probs = (half[:, None] == half).float()
        probs = (probs / probs.sum(1, keepdim=True)).expand(batch, -1, -1)
        tokenised, cross = [], torch.full((batch, 6, h, w), 0.01)
        for text in prompts:
            spans, at = [(0, 0)], 0
            for word in text.split():
                spans.append((at, at + len(word)))
                at += len(word) + 1
            tokenised.append(TokenisedPrompt(text, (*spans, (0, 0))[:6]))
        cross[:, 2, : h // 2] = 0.9
        cross[:, 4, h // 2 :] = 0.9
        return SourceOutput([AttentionMap(probs, (h, w))], cross=[cross], prompts=tokenised)

    def fingerprint(self):
        return "halves"


def segmenter(source):
    return Segmenter(source, ResolutionAggregator(), IterativeKLMerger(points_per_side=4), ArgmaxAssigner(), namer=CrossAttentionNamer(), image_size=48)  # fmt: skip


def test_captions_become_prompts_and_their_nouns_names():
    images = [torch.full((3, 48, 32), 0.9), torch.full((3, 48, 32), 0.1)]
    day, night = segmenter(CaptionedSource(Halves(), Brightness()))(images)
    assert day.names == ("sun", "sand")
    assert night.names == ("moon", "sand")
    assert day.labels[0, 0] == 0
    assert day.labels[-1, -1] == 1


def test_prompts_that_are_given_count():
    image = torch.full((3, 48, 32), 0.9)
    [named] = segmenter(CaptionedSource(Halves(), Brightness()))(
        image, prompts=["a kite over grass"]
    )
    assert named.names == ("kite", "grass")


def test_the_source_is_that_within():
    source = CaptionedSource(Halves(), Brightness())
    assert source.size_multiple == 4
    assert source.fingerprint() == "CaptionedSource-1(halves, brightness)"

    class Nameless(Brightness):
        def fingerprint(self):
            return ""

    assert CaptionedSource(Halves(), Nameless()).fingerprint() == ""
    within = {"class_path": "StableDiffusionSource", "init_args": {"model": "owner/model"}}
    assert CaptionedSource.weights(source=within).model == "owner/model"
    assert CaptionedSource.weights() is None


def test_blip_captions_as_transformers_does(blip_folder, generator):
    import transformers

    captioner = BLIPCaptioner(str(blip_folder), max_tokens=5)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    model = transformers.BlipForConditionalGeneration.from_pretrained(blip_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(blip_folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    expected = []
    for image in images:
        pixels = ((image - mean) / std)[None]
        with torch.no_grad():
            tokens = model.generate(pixel_values=pixels, max_new_tokens=5, do_sample=False, num_beams=1)  # fmt: skip
        expected.append(tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    found = captioner(images)
    assert found == expected
    assert any(found)
    assert captioner(images[1:]) == found[1:]
    assert captioner.fingerprint() != BLIPCaptioner(str(blip_folder), max_tokens=6).fingerprint()


def test_blip_sees_what_its_own_processor_would_show_it(blip_folder, monkeypatch):
    """Which resizes with Pillow, bicubic, to a square of 8 bits."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (5, 7, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    captioner = BLIPCaptioner(str(blip_folder))
    shown = []

    def generate(pixel_values, **options):
        shown.append(pixel_values[0])
        return torch.zeros(1, 1, dtype=torch.int64)

    monkeypatch.setattr(captioner.model, "generate", generate)
    captioner(torch.from_numpy(blocks).permute(2, 0, 1)[None] / 255)
    square = np.asarray(Image.fromarray(blocks).resize((32, 32), Image.Resampling.BICUBIC)) / 255
    expected = (square - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    np.testing.assert_allclose(shown[0].permute(1, 2, 0).numpy(), expected, atol=0.06)


def test_what_is_no_part_is_told(blip_folder):
    with pytest.raises(TypeError, match="`source` to be an AttentionSource, but got Brightness"):
        CaptionedSource(Brightness(), Brightness())
    with pytest.raises(TypeError, match="`captioner` to be a Captioner or None, but got 'blip'"):
        CaptionedSource(Halves(), "blip")


def test_remedies_name_the_captioner_s_option(monkeypatch):
    with pytest.raises(WeightsError, match="^--source.captioner.model: there is no folder"):
        BLIPCaptioner("./nowhere")

    def unreachable(files):
        raise DownloadError("No network: give a local copy with --source.model FOLDER.")

    monkeypatch.setattr("diffsegkit_text.models.find_model", unreachable)
    with pytest.raises(DownloadError, match="a local copy with --source.captioner.model FOLDER"):
        BLIPCaptioner()


def test_a_model_of_another_kind_is_told(clip_folder, blip_folder, tmp_path):
    with pytest.raises(WeightsError, match="BlipForConditionalGeneration"):
        BLIPCaptioner(str(clip_folder))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError):
        BLIPCaptioner(str(tmp_path))
    with pytest.raises(ValueError, match="`max_tokens` to be at least 1"):
        BLIPCaptioner(str(blip_folder), max_tokens=0)
