"""Images of every common kind become RGB tensors; everything else gets a clear sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from diffsegkit import load_image
from diffsegkit.errors import ImageError
from diffsegkit.images import loading

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixel(tensor, row=0, column=0):
    return tuple(tensor[:, row, column].tolist())


@pytest.fixture
def saved(tmp_path):
    def save(image, name="photo.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


def test_a_path_a_picture_an_array_and_a_tensor_agree(saved, photo):
    path = saved(Image.fromarray(photo))
    expected = torch.from_numpy(photo).permute(2, 0, 1)
    for image in (path, str(path), Image.open(path), photo, expected):
        assert torch.equal(load_image(image), expected)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("RGB", RED, RED),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("HSV", (0, 255, 255), RED),
    ],
)
def test_modes(mode, colour, expected):
    image = load_image(Image.new(mode, (3, 2), colour))
    assert image.shape == (3, 2, 3)
    assert image.dtype == torch.uint8
    assert pixel(image) == expected


def test_palettes_with_and_without_transparency(saved):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixel(load_image(image), 0, 1) == BLUE
    path = saved(image, transparency=1)
    assert pixel(load_image(path), 0, 0) == RED
    assert pixel(load_image(path), 0, 1) == WHITE


def test_sixteen_bits_keep_their_precision(saved):
    values = np.array([[0, 1, 32768, 65535]], dtype=np.uint16)
    for image in (saved(Image.fromarray(values)), saved(Image.fromarray(values), "a.tif"), values):
        tensor = load_image(image)
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor[0, 0].double(), torch.from_numpy(values[0] / 65535.0), rtol=1e-6, atol=1e-9)  # fmt: skip
    torch.testing.assert_close(load_image(torch.from_numpy(values)), load_image(values))


def test_integer_and_float_modes(saved):
    integers = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert load_image(integers)[0, 0].tolist() == [0, 1]
    floats = saved(Image.fromarray(np.array([[0.0, 0.25]], dtype=np.float32)), "f.tif")
    assert load_image(floats)[2, 0].tolist() == [0, 0.25]
    with pytest.raises(ImageError, match="between 0 and 70000"):
        load_image(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(saved, orientation):
    """A picture 3 wide and 2 high, stored turned, comes back upright."""
    upright = Image.new("RGB", (3, 2), BLUE)
    upright.putpixel((0, 0), RED)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(saved(stored, exif=exif))
    assert image.shape == (3, 2, 3)
    assert pixel(image) == RED


def test_the_first_frame_of_an_animation_with_a_word(saved):
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN, BLUE)]
    path = saved(frames[0], "a.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"a\.gif' has 3 frames; the first is used"):
        assert pixel(load_image(path)) == RED


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_small_and_thin(size):
    assert load_image(np.zeros((*size, 3), np.uint8)).shape == (3, *size)


def test_odd_memory_layouts(photo):
    expected = load_image(photo)
    for array in (
        photo[:, ::-1][:, ::-1],
        np.asfortranarray(photo),
        photo.astype(">u2").astype("u1"),
    ):
        assert torch.equal(load_image(array), expected)
    big_endian = (photo.astype(np.float64) / 255).astype(">f8")
    torch.testing.assert_close(load_image(big_endian), expected / 255)
    read_only = photo.copy()
    read_only.setflags(write=False)
    assert torch.equal(load_image(read_only), expected)


def test_alpha_in_arrays_is_laid_over_white():
    array = np.zeros((1, 2, 4), np.uint8)
    array[0, 1, 3] = 255
    assert pixel(load_image(array), 0, 0) == WHITE
    assert pixel(load_image(array), 0, 1) == (0, 0, 0)
    assert pixel(load_image(array / 255.0), 0, 0) == (1, 1, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 2, 2), np.uint8), r"shape \(H, W\).*got \(2, 2, 2\)"),
        (np.zeros((0, 3, 3), np.uint8), r"got \(0, 3, 3\)"),
        (np.zeros((3, 5, 6), np.uint8), r"channels last with .transpose\(1, 2, 0\)"),
        (np.zeros(5, np.uint8), r"got \(5,\)"),
        (np.zeros((2, 2), np.int64), "uint8, uint16 or float, but got int64"),
        (np.zeros((2, 2), bool), "but got bool"),
        (np.full((2, 2), 1.5), r"values in \[0, 1\], but got 1.5"),
        (np.full((2, 2), -0.5), r"values in \[0, 1\], but got -0.5"),
        (np.full((2, 2), np.nan), "contains NaN or infinity"),
        (torch.zeros(5, 5, 3), r"move the channels first with .permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 4, 5, 6), r"got \(2, 3, 4, 5, 6\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), r"but got torch\.int32"),
        (torch.full((3, 2, 2), 255.0), "divide 8-bit values by 255"),
        (7, "a path, a PIL image, a NumPy array or a tensor, but got int"),
        (None, "but got NoneType"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ImageError, match=message):
        load_image(image)


def test_rounding_outside_the_range_is_clamped():
    resized = torch.nn.functional.interpolate(
        torch.ones(1, 3, 37, 41), size=(9, 13), mode="bilinear", antialias=True
    )[0]
    assert load_image(resized * 1.0001).max() == 1
    assert load_image(resized * 0 - 1e-4).min() == 0


def test_a_picture_in_memory_that_is_cut_off(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    picture = Image.open(io.BytesIO(buffer.getvalue()[:3000]))
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_image(picture)


def test_a_picture_keeps_its_place(saved):
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN, BLUE)]
    with Image.open(saved(frames[0], "a.gif", save_all=True, append_images=frames[1:])) as picture:
        picture.seek(2)
        with pytest.warns(UserWarning, match="3 frames; number 3 is used"):
            assert pixel(load_image(picture)) == BLUE
        assert picture.tell() == 2


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, message in {
        "none.png": "There is no file",
        ".": "is a folder",
        "empty.png": "is empty",
        "text.jpg": "not an image that Pillow can read",
        "loop.png": "loop|no file",
    }.items():
        with pytest.raises(ImageError, match=message):
            load_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.bmp"])
def test_truncated_files(tmp_path, photo, name):
    path = tmp_path / name
    Image.fromarray(photo).save(path)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match=name):
            load_image(path)


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    """A PNG that claims 60000 x 60000 pixels in a few bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ImageError, match="bomb.png"):
        load_image(path)


def test_the_limit_is_ours_not_pillows(monkeypatch):
    monkeypatch.setattr(loading, "_MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="10x10 pixels"):
        load_image(Image.new("L", (10, 10)))
    assert load_image(Image.new("L", (9, 11))).shape == (3, 11, 9)
