"""Images with known segments, and what an assigner is given of them."""

import torch

from diffsegkit import AggregatedAttention, Proposals, SourceOutput


def seen(images):
    """Aggregated attention of which nothing matters but the images."""
    bare = [Proposals(torch.ones(1, 1, 1))] * len(images)
    output = SourceOutput([], proposals=bare, images=images)
    return AggregatedAttention(torch.ones(len(images), 1, 1), (1, 1), output)


def random_proposals(number, grid, generator):
    maps = torch.rand(number, *grid, generator=generator)
    return Proposals(maps / maps.sum((1, 2), keepdim=True))


def one_hot(number, size, generator):
    labels = torch.randint(number, size, generator=generator)
    return (labels == torch.arange(number)[:, None, None]).double()


def disc(size=(96, 144), noise=0.02):
    """An ellipse of one colour on another: the image ``(3, H, W)``, the truth ``(H, W)``."""
    rows = torch.linspace(-1, 1, size[0])[:, None]
    columns = torch.linspace(-1, 1, size[1])
    truth = ((rows / 0.55) ** 2 + ((columns - 0.1) / 0.6) ** 2 < 1).long()
    colours = torch.tensor([[0.25, 0.35, 0.6], [0.7, 0.5, 0.3]])
    image = colours[truth].permute(2, 0, 1)
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    return (image + noise * grain).clamp(0, 1), truth


def coarse(truth, grid=(12, 18), shift=4):
    """Proposals on a grid, from a truth that was moved by some pixels: one map per segment."""
    moved = truth.roll((shift, -shift), (0, 1))
    masks = torch.stack([moved == 0, moved == 1]).float()
    shares = torch.nn.functional.adaptive_avg_pool2d(masks, grid)
    return Proposals(shares / shares.sum((1, 2), keepdim=True), scores=shares)


def iou(labels, truth):
    """The lesser of the two segments' intersections over unions."""
    values = []
    for segment in (0, 1):
        ours, theirs = labels == segment, truth == segment
        values.append(float((ours & theirs).sum() / (ours | theirs).sum()))
    return min(values)
