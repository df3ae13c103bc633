"""Make the picture in the README: photos that come with scikit-image, and their segments.

python docs/pictures.py
"""

from pathlib import Path

from PIL import Image
from skimage import data

from diffsegkit import Segmenter

HEIGHT = 240
PHOTOS = (data.chelsea, data.coffee, data.astronaut, data.rocket)


def main() -> None:
    """Two rows: the photos, and the overlays of the preset `affinity`."""
    photos = [photo() for photo in PHOTOS]
    segmentations = Segmenter.from_preset("affinity")(photos)
    overlays = [each.overlay(photo) for each, photo in zip(segmentations, photos, strict=True)]
    rows = [[Image.fromarray(photo) for photo in photos], overlays]
    width = sum(scaled(picture).width for picture in overlays)
    sheet = Image.new("RGB", (width, 2 * HEIGHT), "white")
    for row, pictures in enumerate(rows):
        left = 0
        for picture in map(scaled, pictures):
            sheet.paste(picture, (left, row * HEIGHT))
            left += picture.width
    sheet.save(Path(__file__).parent / "images" / "segments.jpg", quality=88)


def scaled(picture: Image.Image) -> Image.Image:
    """The picture at the height of a row."""
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT))


if __name__ == "__main__":
    main()
