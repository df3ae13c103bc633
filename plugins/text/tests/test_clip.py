"""Names by CLIP against transformers' own scores of crops made anew."""

import sys

import pytest
import torch

from diffsegkit import AggregatedAttention, Segmenter, SourceOutput
from diffsegkit.errors import ComponentError, UsageError, WeightsError
from diffsegkit_text import CLIPNamer

NAMES = ["cat", "sky", "road"]


def reference(folder, labels, image, context, templates):
    """The cosines, segment by segment, with CLIP's own forward."""
    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    rows = []
    for label in range(int(labels.max()) + 1):
        where = (labels == label).nonzero()
        (top, left), (bottom, right) = (
            where.min(0).values.tolist(),
            (where.max(0).values + 1).tolist(),
        )
        shown = torch.where(labels == label, image, mean + context * (image - mean))
        box = shown[:, top:bottom, left:right]
        side = max(box.shape[1:])
        square = mean.repeat(1, side, side)
        y, x = (side - box.shape[1]) // 2, (side - box.shape[2]) // 2
        square[:, y : y + box.shape[1], x : x + box.shape[2]] = box
        pixels = torch.nn.functional.interpolate(square[None], size=(32, 32), mode="bicubic", antialias=True).clamp(0, 1)  # fmt: skip
        row = []
        for name in NAMES:
            cosines = []
            texts = [template.replace("{}", name) for template in templates]
            with torch.no_grad():
                output = model(**tokenizer(texts, padding=True, return_tensors="pt"), pixel_values=(pixels - mean) / std)  # fmt: skip
            text = output.text_embeds.mean(0)
            cosines = output.image_embeds[0] @ (text / text.norm())
            row.append(float(cosines))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("templates", [("a photo of a {}.",), ("a {}.", "some {}.")])
@pytest.mark.parametrize("context", [0.0, 0.2, 1.0])
def test_scores(clip_folder, templates, context, generator):
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[10:30, 20:], labels[:5, :5] = 1, 2
    image = torch.rand(3, 40, 60, generator=generator)
    namer = CLIPNamer(NAMES, str(clip_folder), templates=templates, context=context, batch_size=2)
    expected = reference(clip_folder, labels, image, context, templates)
    torch.testing.assert_close(namer.scores(labels, image), expected, atol=1e-4, rtol=1e-3)
    aggregated = AggregatedAttention(torch.eye(1)[None], (1, 1), SourceOutput([], features=[torch.ones(1, 1, 1, 1)], images=image[None]))  # fmt: skip
    names = [NAMES[place] for place in expected.argmax(1)]
    assert namer(labels[None], aggregated=aggregated) == [names]


def test_the_image_may_be_smaller_than_the_label_map(clip_folder, generator):
    labels = torch.zeros(80, 80, dtype=torch.int64)
    labels[7, 9] = 1  # one pixel, which is none of the image's own
    namer = CLIPNamer(NAMES, str(clip_folder))
    assert namer.scores(labels, torch.rand(3, 20, 20, generator=generator)).shape == (2, 3)


def test_in_a_segmenter_segments_of_one_name_become_one(clip_folder):
    photo = torch.zeros(3, 60, 90)
    photo[0, :, :30], photo[:, :, 30:60], photo[0, :, 60:] = 0.5, 1.0, 0.5
    segmenter = Segmenter.from_preset("affinity", namer=CLIPNamer(NAMES, str(clip_folder)))
    [segmentation] = segmenter(photo)
    assert len(set(segmentation.names)) == segmentation.num_segments <= 3
    # The two red stripes look alike once cut out, so they have one name.
    assert segmentation.labels[30, 10] == segmentation.labels[30, 80]
    [one] = Segmenter.from_preset("affinity", namer=CLIPNamer(["thing"], str(clip_folder)))(photo)
    assert one.names == ("thing",)


def test_remedies_name_the_namer_s_option():
    with pytest.raises(WeightsError, match="^--namer.model: there is no folder"):
        CLIPNamer(NAMES, "./nowhere")


def test_without_images_and_without_transformers(clip_folder, monkeypatch):
    bare = AggregatedAttention(torch.eye(1)[None], (1, 1))
    with pytest.raises(UsageError, match="CLIPNamer looks at the image"):
        CLIPNamer(NAMES, str(clip_folder))(torch.zeros(1, 2, 2).long(), aggregated=bare)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ComponentError, match=r"pip install 'diffsegkit-text\[models\]'"):
        CLIPNamer(NAMES, str(clip_folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": "cat"}, "`names` to be a list of names"),
        ({"names": []}, "`names` to be a list of names"),
        ({"names": ["cat", "cat"]}, "`names` to hold each name once"),
        ({"names": NAMES, "templates": ["a photo"]}, "`templates` to be a list of texts with {}"),
        ({"names": NAMES, "context": 2}, "`context` between 0 and 1"),
        ({"names": NAMES, "batch_size": 0}, "`batch_size` to be at least 1"),
    ],
)
def test_wrong_arguments(options, message, clip_folder):
    with pytest.raises(ValueError, match=message):
        CLIPNamer(**options, model=str(clip_folder))
