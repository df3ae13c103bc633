"""Attention on disk: what comes back, what is computed anew, and what may go wrong."""

import errno
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import save

import diffsegkit.cache_folder
from diffsegkit import AttentionMap, AttentionSource, Segmenter, SourceOutput
from diffsegkit.aggregators import ResolutionAggregator
from diffsegkit.assigners import ArgmaxAssigner
from diffsegkit.errors import UsageError
from diffsegkit.evaluation.memo import SharedSource
from diffsegkit.interfaces.half import SCALE
from diffsegkit.mergers import IterativeKLMerger
from diffsegkit.presets import part
from diffsegkit.sources import AffinitySource, CachedSource, StableDiffusionSource
from diffsegkit.weights import ModelFiles
from tests.golden.attention import GENERATORS, SIZES
from tests.golden.test_parity import CASES
from tests.sources.pipelines import make_pipeline
from tests.sources.test_stored_output import everything


class CountingSource(AttentionSource):
    """Tells what it was asked for; its attention depends on pixels, prompt and strength."""

    size_multiple = 4

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.asked = []
        self.fingerprints = 0

    def forward(self, images, *, prompts=None):
        self.asked.append(len(images))
        texts = [0.0] * len(images) if prompts is None else [len(text) for text in prompts]
        cells = images.float().mean(1)[:, :4, :4].flatten(1)
        logits = -self.strength * (cells[:, :, None] - cells[:, None]).abs()
        logits = logits * (1 + torch.tensor(texts, device=images.device)[:, None, None])
        return SourceOutput([AttentionMap((self.weight * logits).softmax(-1), (4, 4), "only", 3)])

    def fingerprint(self):
        self.fingerprints += 1
        return f"CountingSource({self.strength}, {self.weight.dtype})"

    def default_dtype(self, device):
        return torch.float16 if device.type == "cuda" else None

    @classmethod
    def weights(cls, **options):
        return ModelFiles(options.get("model", "nobody/nothing"), ())


@pytest.fixture
def images(generator):
    return torch.rand(3, 3, 8, 8, generator=generator)


@pytest.fixture
def inner():
    return CountingSource()


@pytest.fixture
def cached(inner, tmp_path):
    return CachedSource(inner, str(tmp_path / "cache"))


def files(source):
    """All there is in the folder, temporary files too."""
    return sorted(path for path in source._folder.directory.rglob("*") if path.is_file())


def probs(output):
    return [attention.probs for attention in output.attention]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(probs(one), probs(other), strict=True))


# --- Label maps agree with those of uncached float32.


class GoldenSource(AttentionSource):
    """The attention of the original's runs, of the shapes of Stable Diffusion."""

    def __init__(self, name) -> None:
        super().__init__()
        case = CASES[name]
        self.maps = GENERATORS[case["kind"]](**case["generator"])

    def forward(self, images, *, prompts=None):
        return SourceOutput([
            AttentionMap(torch.from_numpy(own)[None], (size, size))
            for size, own in self.maps.items()
        ])  # fmt: skip

    def fingerprint(self):
        return "golden"


# The three that agree least, and the rest.
HARDEST = ["many", "soft_many", "soft_weights"]
REST = [pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in HARDEST]


@pytest.mark.parametrize("name", [*HARDEST, *REST])
def test_label_maps_of_stable_diffusion_agree(name, tmp_path):
    case, source = CASES[name], GoldenSource(name)
    ratio = case["weight_ratio"]
    aggregator = ResolutionAggregator(
        "resolution" if ratio is None else dict(zip(SIZES, ratio, strict=True))
    )
    merger = IterativeKLMerger(case["thresholds"], case["points_per_side"], refine=case["refine"])

    def labels(own):
        return ArgmaxAssigner()(merger(aggregator(own(torch.zeros(1, 3, 8, 8)))), (512, 512))

    cached = CachedSource(source, str(tmp_path))
    computed, read, uncached = labels(cached), labels(cached), labels(source)
    assert torch.equal(computed, read)
    assert (read == uncached).float().mean() >= 0.999
    [file] = files(cached)
    entries = sum(size**4 for size in SIZES)
    assert 2 * entries < file.stat().st_size < 2 * entries + 4096


@pytest.fixture(scope="module")
def affinity():
    """The segmenter of the preset, and one of sharper attention."""
    return {
        temperature: Segmenter.from_preset("affinity", source={"temperature": temperature})
        for temperature in (0.15, 0.05)
    }


def label_map(segmenter, output, size):
    return segmenter.assign(segmenter.merge(segmenter.aggregate(output)), size)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "rocket"])
def test_label_maps_of_photos_agree(name, affinity, tmp_path):
    photo = getattr(skimage.data, name)()
    segmenter = affinity[0.15]
    cached = Segmenter(
        CachedSource(segmenter.source, str(tmp_path)),
        segmenter.aggregator, segmenter.merger, segmenter.assigner, antialias=True,
    )  # fmt: skip
    [uncached], [computed], [read] = segmenter(photo), cached(photo), cached(photo)
    assert torch.equal(computed.labels, read.labels)
    assert len(computed.proposals) == len(uncached.proposals) > 1
    assert (computed.labels == uncached.labels).float().mean() >= 0.999


def test_why_attention_is_scaled(affinity, tmp_path):
    """Unscaled, sharper attention loses its small entries, and 4 % of the pixels change."""
    photo, segmenter = skimage.data.chelsea(), affinity[0.05]
    output = segmenter.extract(photo)
    full = label_map(segmenter, output, photo.shape[:2])
    agreement = {}
    for scale in (1.0, SCALE):
        rounded = [
            AttentionMap((own.probs * scale).half().float() / scale, own.grid)
            for own in output.attention
        ]
        assert any(bool((own.probs == 0).any()) for own in rounded) == (scale == 1)
        labels = label_map(segmenter, SourceOutput(rounded), photo.shape[:2])
        agreement[scale] = float((labels == full).float().mean())
    assert agreement[1.0] < 0.98
    assert agreement[SCALE] >= 0.999
    read = CachedSource(segmenter.source, str(tmp_path))(output.images)
    assert (label_map(segmenter, read, photo.shape[:2]) == full).float().mean() >= 0.999


# --- Hits and misses.


def test_what_is_there_is_not_computed(inner, cached, images):
    computed = cached(images)
    read = cached(images)
    assert inner.asked == [3]
    assert same(computed, read)
    assert read.images is images
    [attention] = read.attention
    assert (attention.grid, attention.name, attention.count) == ((4, 4), "only", 3)
    with torch.no_grad():
        [uncached] = probs(inner(images))
    torch.testing.assert_close(attention.probs, uncached, rtol=2**-10, atol=0)
    assert not attention.probs.requires_grad
    again = CachedSource(CountingSource(), cached.dir)
    assert same(again(images), read)
    assert again.source.asked == []


def test_only_what_is_missing_is_computed(inner, cached, images):
    cached(images[1:2])
    together = cached(images, prompts=None)
    assert inner.asked == [1, 2]
    assert same(cached(images.flip(0)), SourceOutput([
        AttentionMap(probs(together)[0].flip(0), (4, 4))
    ]))  # fmt: skip
    assert inner.asked == [1, 2]


def test_a_batch_is_a_loop(tmp_path, images):
    together = CachedSource(CountingSource(), str(tmp_path / "batch"))
    alone = CachedSource(CountingSource(), str(tmp_path / "loop"))
    for texts in (None, ["a", "bcd", ""]):
        for _ in range(2):
            batch = together(images, prompts=texts)
            for index in range(3):
                own = None if texts is None else texts[index : index + 1]
                [one] = probs(alone(images[index : index + 1], prompts=own))
                assert torch.equal(one[0], probs(batch)[0][index])
    names = [[file.name for file in files(source)] for source in (together, alone)]
    assert names[0] == names[1]


@pytest.mark.parametrize("batch", [1, 2])
def test_all_that_a_source_gives_comes_back(batch, generator, tmp_path):
    class Everything(CountingSource):
        def forward(self, images, *, prompts=None):
            self.asked.append(len(images))
            return everything(generator, len(images))

    cached = CachedSource(Everything(), str(tmp_path))
    images = torch.rand(batch, 3, 8, 8, generator=generator)
    computed, read = cached(images), cached(images)
    assert cached.source.asked == [batch]
    assert same(computed, read)
    assert [len(own) for own in read.proposals] == list(range(1, batch + 1))
    for name in ("features", "cross"):
        pairs = zip(getattr(computed, name), getattr(read, name), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(computed.images, read.images)
    assert not torch.equal(read.images[..., :8, :8], images)


def test_gradients_and_views_do_no_harm(inner, cached, images):
    """An image that is no contiguous tensor, or has a gradient, is the same image."""
    cached(images)
    cached(images.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2))
    cached(images.clone().requires_grad_())
    with torch.inference_mode():
        cached(images.clone())
    assert inner.asked == [3]


# --- What attention depends on.


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images + torch.tensor([0.0] * 191 + [2**-20]).reshape(1, 3, 8, 8),
        lambda images: images.reshape(1, 3, 4, 16),
        lambda images: images.flip(1),
        lambda images: images.double(),
        lambda images: images.half(),
    ],
)
def test_another_image_is_computed(inner, cached, images, change):
    cached(images[:1])
    cached(change(images[:1]))
    assert inner.asked == [1, 1]


def test_another_prompt_is_computed(inner, cached, images):
    for texts in (None, ["a", "b", "c"], ["a", "b", "d"], ["", "", ""]):
        cached(images, prompts=texts)
    assert inner.asked == [3, 3, 1, 3]
    cached(images, prompts=("a", "b", "c"))
    assert inner.asked == [3, 3, 1, 3]
    with pytest.raises(ValueError, match=r"one prompt for each of 3 images, but got \['a', 'b'\]"):
        cached(images, prompts=["a", "b"])


def test_other_settings_are_computed(inner, cached, images):
    cached(images)
    inner.strength = 2.0
    cached(images)
    # The dtype is part of this fingerprint, and a module's may change at any time.
    cached.to(torch.float16)
    assert inner.weight.dtype == torch.float16
    cached(images)
    assert inner.asked == [3, 3, 3]
    cached.to(torch.float32)
    inner.strength = 1.0
    cached(images)
    assert inner.asked == [3, 3, 3]


def test_the_fingerprint_is_taken_once_for_a_batch(inner, cached, images):
    before = inner.fingerprints
    cached(images)
    cached(images)
    assert inner.fingerprints == before + 2


@pytest.mark.parametrize("package", ["diffsegkit", "torch", "diffusers", "transformers"])
def test_other_versions_are_computed(inner, cached, images, package, monkeypatch):
    cached(images)

    def version(name, known=importlib.metadata.version):
        return "999" if name == package else known(name)

    monkeypatch.setattr("diffsegkit.sources.cached.version", version)
    CachedSource(inner, cached.dir)(images)
    assert inner.asked == [3, 3]


def test_the_version_of_a_plugin_counts(inner, images, tmp_path, monkeypatch):
    """A source from a package of its own depends on that package."""
    module = "diffsegkit.sources.cached"
    monkeypatch.setattr(f"{module}.packages_distributions", lambda: {"tests": ["a-plugin"]})
    for release in ("1", "2", "2"):
        versions = {"a-plugin": release}
        monkeypatch.setattr(f"{module}.version", lambda name, own=versions: own.get(name, "0"))
        CachedSource(inner, str(tmp_path))(images)
    assert inner.asked == [3, 3]


def test_its_own_fingerprint(inner, cached, tmp_path):
    assert inner.fingerprint() in cached.fingerprint()
    assert cached.fingerprint() != inner.fingerprint()
    elsewhere = CachedSource(inner, str(tmp_path / "elsewhere"), max_gib=1)
    assert cached.fingerprint() == elsewhere.fingerprint()


class Anonymous(CountingSource):
    def fingerprint(self):
        return ""


@pytest.mark.parametrize("source", [Anonymous(), SharedSource(Anonymous())])
def test_a_source_without_fingerprint_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match=f"{type(source).__name__} has no fingerprint.*uncached"):
        CachedSource(source, str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_what_it_takes_from_the_source(cached, inner, tmp_path):
    assert cached.size_multiple == 4
    assert cached.default_dtype(torch.device("cuda")) == torch.float16
    assert cached.default_dtype(torch.device("cpu")) is None
    assert dict(cached.named_parameters()).keys() == {"source.weight"}
    assert repr(cached).startswith(f"CachedSource(\n  dir={cached.dir!r}, max_gib=50.0\n  (source)")


def test_weights_of_the_source_within():
    path = f"{__name__}.CountingSource"
    assert CachedSource.weights(source={"class_path": path}).model == "nobody/nothing"
    options = {"class_path": path, "init_args": {"model": "one/two"}}
    assert CachedSource.weights(source=options, dir="x").model == "one/two"
    nested = {"class_path": "diffsegkit.sources.CachedSource", "init_args": {"source": options}}
    assert CachedSource.weights(source=nested).model == "one/two"
    plain = {"class_path": "diffsegkit.sources.AffinitySource"}
    for source in (plain, AffinitySource(), None, {}):
        assert CachedSource.weights(source=source) is None
    assert CachedSource.weights() is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "AffinitySource"}, TypeError, "`source` to be an AttentionSource"),
        ({"max_gib": 0}, ValueError, "`max_gib` above 0, but got 0"),
        ({"max_gib": float("nan")}, ValueError, "`max_gib`"),
        ({"dir": ""}, UsageError, "`dir` to be a folder, but got no name"),
        ({"dir": __file__}, UsageError, "is a file"),
        ({"dir": f"{__file__}/beneath"}, UsageError, "can be written to.*Not a directory"),
    ],
)
def test_wrong_options(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        CachedSource(**{"source": CountingSource(), "dir": str(tmp_path), **options})


def test_a_source_that_gives_something_else(cached, images, monkeypatch):
    two = SourceOutput([AttentionMap(torch.eye(4).expand(2, 4, 4), (2, 2))])
    for given, error, message in (
        (torch.ones(3), TypeError, "gave a Tensor, and only a SourceOutput can be stored"),
        (two, ValueError, "attention for 2 images, but got 3"),
    ):
        monkeypatch.setattr(cached.source, "forward", lambda *_, own=given, **__: own)
        with pytest.raises(error, match=message):
            cached(images)
    assert files(cached) == []


# --- Files that are not as they should be.


def overwrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def flip(data, place):
    damaged = bytearray(data)
    damaged[place] ^= 16
    return bytes(damaged)


DAMAGES = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut in the length": lambda data: data[:5],
    "cut in the header": lambda data: data[:100],
    "cut in the tensors": lambda data: data[:-100],
    "cut by a byte": lambda data: data[:-1],
    "longer": lambda data: data + b"more",
    "bit in the length": partial(flip, place=6),
    "bit in the header": partial(flip, place=9),
    "bit in the tensors": partial(flip, place=-300),
    "bit at the end": partial(flip, place=-1),
    "another safetensors file": lambda data: save({"weight": torch.ones(4, 4)}),
    "a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_computed_again(damage, inner, cached, images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = cached(images)
    names = files(cached)
    damaged = names[1]
    overwrite(damaged, DAMAGES[damage])
    with pytest.warns(UserWarning, match="computed again") as caught:
        assert same(cached(images), expected)
    [message] = [str(warning.message) for warning in caught]
    assert message.startswith(f"The stored attention {str(damaged)!r} cannot be used: it")
    assert message.endswith("; it is computed again.")
    assert inner.asked == [3, 1]
    assert files(cached) == names
    assert same(cached(images), expected)  # without a warning
    assert inner.asked == [3, 1]
    assert not (tmp_path / "pwned").exists()


def test_the_file_of_another_image_is_computed_again(inner, cached, images):
    expected = cached(images)
    one, other, _ = files(cached)
    one.write_bytes(other.read_bytes())
    with pytest.warns(UserWarning, match="it holds something else; it is computed again"):
        assert same(cached(images), expected)
    assert inner.asked == [3, 1]


def test_a_folder_in_place_of_a_file(inner, cached, images):
    expected = cached(images)
    [first, *_] = files(cached)
    first.unlink()
    first.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert same(cached(images), expected)
    messages = [str(warning.message) for warning in caught]
    assert "cannot be used: Is a directory; it is computed again" in messages[0]
    assert "cannot be stored in" in messages[1]
    assert len(messages) == 2
    assert len(files(cached)) == 2


def test_a_file_that_may_not_be_read(inner, cached, images, monkeypatch):
    expected = cached(images)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", refuse)
        with pytest.warns(UserWarning, match="Permission denied; it is computed again"):
            assert same(cached(images[:1]), SourceOutput([
                AttentionMap(probs(expected)[0][:1], (4, 4))
            ]))  # fmt: skip


# --- Space.


def test_the_least_recently_used_go(inner, cached, images, generator):
    cached(images)
    size = max(file.stat().st_size for file in files(cached))
    few = CachedSource(inner, cached.dir, max_gib=3.4 * size / 2**30)
    for index, file in enumerate(few._keys(images, None, inner.fingerprint())):
        os.utime(few._folder.path(file), (1000 + index, 1000 + index))
    few(images[:1])  # now the second is the oldest
    few(torch.rand(1, 3, 8, 8, generator=generator))
    inner.asked.clear()
    few(images[[0, 2]])
    assert inner.asked == []
    few(images[1:2])
    assert inner.asked == [1]
    assert sum(file.stat().st_size for file in files(few)) <= 3.4 * size


def test_attention_larger_than_all_may_be(inner, images, tmp_path):
    cached = CachedSource(inner, str(tmp_path), max_gib=1e-7)
    with pytest.warns(UserWarning, match="not stored") as caught:
        first = cached(images)
    [message] = [str(warning.message) for warning in caught]
    assert re.fullmatch(
        r"The attention of an image takes 1[\d.]*e-06 GiB, and all may take 1e-07 GiB, so it is not "
        r"stored; a larger max_gib would help\.",
        message,
    )
    assert same(cached(images), first)
    assert same(CachedSource(inner, str(tmp_path / "other"))(images), first)
    assert inner.asked == [3, 3, 3]
    assert not list(tmp_path.glob("*.*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more(number, inner, cached, images, monkeypatch):
    expected = cached(images[:1])
    tried = []

    def fail(path, write):
        tried.append(path)
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(diffsegkit.cache_folder, "write_atomically", fail)
    with pytest.warns(UserWarning, match="goes on without") as caught:
        together = cached(images)
    [message] = [str(warning.message) for warning in caught]
    assert message == (
        f"Attention cannot be stored in {cached.dir!r}: {os.strerror(number)}; the run goes on "
        "without."
    )
    assert torch.equal(probs(together)[0][:1], probs(expected)[0])
    assert same(cached(images), together)
    assert inner.asked == [1, 2, 2]
    # A full disk is not filled again and again; another fault may concern one file.
    assert len(tried) == (4 if number == errno.EIO else 1)
    monkeypatch.undo()
    assert same(CachedSource(inner, cached.dir)(images), together)


@contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_breaks_off_leaves_nothing(inner, cached, images):
    """The system's own error, in the middle of a file."""
    with warnings.catch_warnings(record=True) as caught, largest_file(500):
        warnings.simplefilter("always")
        first = cached(images)
    [message] = [str(warning.message) for warning in caught]
    assert "File too large" in message
    assert files(cached) == []
    assert same(cached(images), first)
    assert len(files(cached)) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_interruption_leaves_nothing(error, cached, images, monkeypatch):
    def interrupt(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", interrupt)
        with pytest.raises(error):
            cached(images)
    assert files(cached) == []


def test_the_folder_vanishes_during_a_run(inner, cached, images):
    cached(images)
    for file in files(cached):
        file.unlink()
        file.parent.rmdir()
    cached._folder.directory.rmdir()
    cached(images)
    cached(images)
    assert inner.asked == [3, 3]
    assert len(files(cached)) == 3


def test_two_processes_at_once(tmp_path):
    """Both compute, write and evict the same images; results are those of one alone."""
    script = """
import sys, warnings, torch
warnings.simplefilter("error")
from diffsegkit.sources import AffinitySource, CachedSource
generator = torch.Generator().manual_seed(0)
images = torch.rand(12, 3, 32, 32, generator=generator)
inner = AffinitySource(cells=(8, 4))
cached = CachedSource(inner, sys.argv[1], max_gib=60_000 / 2**30)
alone = CachedSource(inner, sys.argv[2])
order = torch.Generator().manual_seed(int(sys.argv[3]))
for _ in range(15):
    some = images[torch.randperm(12, generator=order)[:3]]
    one, other = cached(some), alone(some)
    for own, expected in zip(one.attention, other.attention):
        assert torch.equal(own.probs, expected.probs)
"""
    folders = [str(tmp_path / "small"), str(tmp_path / "large")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *folders, str(seed)], stderr=subprocess.PIPE
        )
        for seed in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    small, large = (list((tmp_path / name).glob("*/*")) for name in ("small", "large"))
    assert all(file.suffix == ".safetensors" for file in [*small, *large])
    assert len(large) == 12
    assert len(small) < 12


def test_stable_diffusion(tmp_path, generator):
    """The source it is made for: prompts, per-layer maps, weights in another dtype."""
    folder = str(make_pipeline(tmp_path / "model", "sd1"))
    source = StableDiffusionSource(folder, average=False)
    cached = CachedSource(source, str(tmp_path / "cache"))
    asked = []
    source.register_forward_pre_hook(lambda _, args: asked.append(len(args[0])))
    images = torch.rand(2, 3, 64, 128, generator=generator)
    for texts in (None, ["a cat", "a dog"]):
        uncached, computed = source(images, prompts=texts), cached(images, prompts=texts)
        assert same(computed, cached(images, prompts=texts))
        for one, other in zip(computed.attention, uncached.attention, strict=True):
            assert (one.grid, one.name, one.count) == (other.grid, other.name, other.count)
            torch.testing.assert_close(one.probs, other.probs, rtol=2**-10, atol=1e-6)
    assert asked == [2] * 4
    cached.to(torch.bfloat16)
    cached(images)
    assert asked == [2] * 5
    other = StableDiffusionSource(str(make_pipeline(tmp_path / "other", "sd1", seed=1)))
    assert CachedSource(other, cached.dir).fingerprint() != cached.fingerprint()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu(inner, images, tmp_path):
    """It comes back where the images are, to the bit, and serves the CPU too."""
    cached = CachedSource(inner, str(tmp_path)).to("cuda")
    computed, read = cached(images.cuda()), cached(images.cuda())
    assert same(computed, read)
    assert probs(read)[0].is_cuda
    cached.cpu()
    [on_cpu] = probs(cached(images))
    assert inner.asked == [3]
    torch.testing.assert_close(on_cpu, probs(read)[0].cpu(), rtol=1e-6, atol=0)


def test_a_photo_through_a_segmenter(photo, tmp_path):
    within = part("diffsegkit.sources.AffinitySource", cells=[16, 8])
    source = part("diffsegkit.sources.CachedSource", source=within, dir=str(tmp_path))
    segmenter = Segmenter.from_preset("affinity", source=source, image_size=64)
    [computed], [read] = segmenter(photo), segmenter(photo)
    assert np.array_equal(computed.labels, read.labels)
    assert isinstance(segmenter.source.source, AffinitySource)
    recorded = segmenter.configuration["source"]["init_args"]
    assert recorded["source"]["init_args"]["cells"] == [16, 8]
    assert (recorded["dir"], recorded["max_gib"]) == (str(tmp_path), 50.0)
