"""What all data sets have in common, tried on a folder of seven images."""

import json
import multiprocessing
import pickle
import re

import lightning
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch.utils.data import DataLoader

from diffsegkit.data import IGNORE, Folder, Record, Sample, SegmentationDataModule
from diffsegkit.data.loader import collate
from diffsegkit.errors import DatasetError, ImageError, UsageError
from tests.data.layouts import LAYOUTS, pascal_voc, quarters, write_image, write_label, write_lines

IDS = [f"image{number}" for number in range(7)]

# What Lightning and PyTorch warn of here is not about the data modules.
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*isinstance.treespec, LeafSpec.:FutureWarning",
    "ignore:.*isinstance.treespec, LeafSpec.:DeprecationWarning",
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
    "ignore:.*trying to infer the `batch_size`:UserWarning",
)


@pytest.fixture
def root(tmp_path):
    for turn, identity in enumerate(IDS):
        write_image(tmp_path / "images" / f"{identity}.png", quarters([0, 1, 2, 255], turn))
        write_label(tmp_path / "labels" / f"{identity}.png", quarters([0, 1, 2, 255], turn))
    return tmp_path


def module(root, **arguments):
    return Folder("images", "labels", root=root, num_classes=3, **arguments)


def batches(loader):
    return [[sample.id for sample in batch] for batch in loader]


class Recorder(lightning.LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def test_step(self, batch, index):
        assert all(isinstance(sample, Sample) for sample in batch)
        self.seen.append([sample.id for sample in batch])

    def predict_step(self, batch, index):
        self.test_step(batch, index)
        return 0


def trainer():
    return lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@quiet
def test_lightning_sees_every_sample_once(root):
    model, data = Recorder(), module(root, batch_size=3)
    trainer().test(model, data, verbose=False)
    assert model.seen == [IDS[:3], IDS[3:6], IDS[6:]]
    model.seen = []
    trainer().predict(model, data)
    assert model.seen == [IDS[:3], IDS[3:6], IDS[6:]]


@quiet
def test_a_resumed_run(root):
    model, data = Recorder(), module(root)
    data.skip([*IDS[:5], "unknown"])
    trainer().test(model, data, verbose=False)
    assert model.seen == [["image5"], ["image6"]]
    assert data.ids == IDS
    data.skip(IDS)
    model.seen = []
    trainer().test(model, data, verbose=False)
    assert model.seen == [[]]
    data.skip([])
    assert batches(data.test_dataloader()) == [[identity] for identity in IDS]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_processes_share(root, world_size):
    class Process:
        def __init__(self, rank):
            self.global_rank, self.world_size = rank, world_size

    shares = []
    for rank in range(world_size):
        data = module(root, batch_size=2)
        data.trainer = Process(rank)
        shares.append(batches(data.test_dataloader()))
    assert len({len(share) for share in shares}) == 1
    assert sorted(each for share in shares for batch in share for each in batch) == IDS
    assert shares[0][0][0] == IDS[0]
    if world_size == 8:
        assert shares[7] == [[]]


@quiet
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers(root, start):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    data = module(root, batch_size=2, num_workers=2)
    data.trainer = trainer()  # which cannot be pickled
    ours = data.test_dataloader()
    assert ours.num_workers == 2
    assert len(pickle.loads(pickle.dumps(ours.dataset))) == 7
    workers = 1 if start == "spawn" else 2  # each imports torch
    loader = DataLoader(
        ours.dataset, batch_size=2, sampler=ours.sampler, collate_fn=collate,
        num_workers=workers, multiprocessing_context=start,
    )  # fmt: skip
    assert batches(loader) == [IDS[0:2], IDS[2:4], IDS[4:6], IDS[6:]]


@quiet
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_comes_out_of_a_worker_as_it_is(root, num_workers):
    (root / "images" / "image3.png").write_bytes(b"nothing")
    data = module(root, num_workers=num_workers)
    with pytest.raises(ImageError, match=r"^'.*image3\.png' is not an image") as raised:
        batches(data.test_dataloader())
    assert "Traceback" not in str(raised.value)


def test_nothing_large_is_kept(root):
    data = module(root)
    data.setup()
    before = len(pickle.dumps(data))
    batches(data.test_dataloader())
    assert len(pickle.dumps(data)) == before < 20_000


def test_subsets(root):
    write_lines(root / "ids.txt", ["image5", "", "image2 ", "image5"])
    assert module(root, ids=root / "ids.txt").ids == ["image2", "image5"]
    assert module(root, ids=str(root / "ids.txt"), limit=1).ids == ["image2"]
    assert module(root, limit=3).ids == IDS[:3]
    assert module(root, limit=100).ids == IDS
    write_lines(root / "ids.txt", ["image1", "imagee2", "zzz"])
    with pytest.raises(
        DatasetError, match=r"2 of the ids .*'imagee2', 'zzz'; did you mean .*'image2'"
    ):
        module(root, ids=root / "ids.txt").setup()
    [problem] = module(root, ids=root / "ids.txt").check()
    assert "2 of the ids" in problem
    write_lines(root / "ids.txt", [])
    with pytest.raises(DatasetError, match="is empty"):
        module(root, ids=root / "ids.txt").setup()
    with pytest.raises(DatasetError, match=r"none\.txt' cannot be read"):
        module(root, ids=root / "none.txt").setup()


@pytest.mark.parametrize(
    "wrong", [{"crop": 0}, {"limit": 0}, {"batch_size": 0}, {"num_workers": -1}]
)
def test_arguments_out_of_range(root, wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(UsageError, match=f"`{name}` to be at least {value + 1}, but got {value}"):
        module(root, **wrong)


def test_crop(root):
    sample = module(root, crop=32).load(0)
    assert sample.image.shape == (3, 32, 32)
    assert sample.image.dtype == torch.float32
    [labels] = sample.annotations
    assert labels.shape == (32, 32)
    assert labels[0, 0] == 0
    assert labels[0, 31] == 1
    assert labels[31, 0] == 2
    assert labels[31, 31] == IGNORE


def test_sizes_must_agree(root):
    write_label(root / "labels" / "image1.png", np.zeros((48, 60)))
    with pytest.raises(
        DatasetError, match=r"image1\.png' has 64x48 pixels, .*image1\.png' has 60x48; bring one"
    ):
        module(root).load(1)
    # A camera held upright: the image is turned as its EXIF data say.
    picture = Image.open(root / "images" / "image2.png")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(root / "images" / "image2.png", exif=exif)
    with pytest.raises(DatasetError, match="48x64 .* 64x48; the orientation in the image's EXIF"):
        module(root).load(2)
    assert len(module(root).check()) == 2


def test_check_reports_everything_at_once(root):
    (root / "images" / "image0.png").unlink()
    (root / "labels" / "image1.png").unlink()
    (root / "images" / "image2.png").write_bytes(b"nothing")
    (root / "labels" / "image2.png").write_bytes(b"nothing")
    write_label(root / "labels" / "image3.png", quarters([0, 1, 2, 9]))
    write_label(root / "labels" / "image4.png", np.zeros((3, 3)))
    seen = []
    problems = module(root).check(progress=lambda *numbers: seen.append(numbers))
    assert seen == [(done, 7) for done in range(1, 8)]
    expected = [
        r"label .*image0.* has no image", r"image .*image1.* has no label", r"images/image2",
        r"labels/image2", r"image3.* holds the value 9", r"image4.* has 3x3",
    ]  # fmt: skip
    assert len(problems) == len(expected)
    for problem, pattern in zip(problems, expected, strict=True):
        assert re.search(pattern, problem), problem
    with pytest.raises(DatasetError, match="2 of the 7 images"):
        module(root).setup()


def test_many_missing_files_are_counted(root):
    for identity in IDS[:5]:
        (root / "labels" / f"{identity}.png").unlink()
    with pytest.raises(DatasetError, match=r"5 of the 7 .*image0.*image1.*image2.* And 2 more\."):
        module(root).setup()


def test_describe(root):
    described = module(root, crop=32).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == "Folder"
    assert described["images"] == 7
    assert described["crop"] == 32
    assert described["num_classes"] == 3
    half = module(root, limit=3).describe()
    assert half["images"] == 3
    assert half["ids_sha256"] != described["ids_sha256"]
    assert half["ids_sha256"] == module(root, limit=3).describe()["ids_sha256"]


def test_samples_move():
    labels = torch.zeros(2, 2, dtype=torch.int64)
    sample = Sample("a", "a.png", torch.zeros(3, 2, 2), (labels,))
    moved = sample.to("meta")
    assert moved.image.device.type == moved.annotations[0].device.type == "meta"
    assert (moved.id, moved.path) == ("a", "a.png")
    assert sample != Sample("a", "a.png", sample.image, sample.annotations)


def test_setup_looks_once(root, monkeypatch):
    data = module(root)
    data.setup("test")
    (root / "images" / "image0.png").unlink()
    data.setup("predict")
    assert data.ids == IDS


class Photos(SegmentationDataModule):
    """All photos of a folder."""

    def find_records(self):
        return [Record(path.stem, path) for path in self.root.glob("*.png")]


def test_a_data_set_of_ones_own(root):
    data = Photos(root / "images", split="anything")
    assert batches(data.predict_dataloader()) == [[identity] for identity in IDS]
    with pytest.raises(DatasetError, match="no ground truth for 'image0' and 6 more"):
        data.test_dataloader()
    assert data.check() == []

    image = root / "images" / "image0.png"

    class Labelled(Photos):
        def find_records(self):
            return [Record("a", image, (image,)), Record("a", image, (image,))]

    with pytest.raises(DatasetError, match="have one id, 'a'"):
        Labelled(root).setup()
    Labelled.find_records = lambda self: [Record("a", image, (image,))]
    with pytest.raises(TypeError, match="Labelled defines neither mapping"):
        Labelled(root).load(0)
    Labelled.find_records = lambda self: []
    with pytest.raises(DatasetError, match="there is no image; `root` is"):
        Labelled(root).setup()


def test_jsonargparse_builds_them(tmp_path):
    root = pascal_voc(tmp_path / "voc")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=SegmentationDataModule)
    init_args = {"root": str(root), "crop": 16, "limit": 2}
    config = {"class_path": "diffsegkit.data.PascalVOC", "init_args": init_args}
    parsed = parser.parse_args(["--data", json.dumps(config)])
    assert str(root) in parser.dump(parsed)
    data = parser.instantiate(parsed).data
    assert data.load(1).image.shape == (3, 16, 16)
    for name in LAYOUTS:
        path = f"diffsegkit.data.{name}"
        parser.parse_args(["--data", path, "--data.root", "x", "--data.ids", "y"])
