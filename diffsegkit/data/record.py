"""Where the files of one image are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """The files of one image, whether they exist or not: a data module looks for them.

    Args:
        id: The id of the sample.
        image: The image.
        annotations: Its label files; empty for a data set without ground truth.
    """

    id: str
    image: Path
    annotations: tuple[Path, ...] = ()

    def missing(self) -> str | None:
        """Which file is missing, in a sentence, or None."""
        image = repr(str(self.image))
        absent = [repr(str(path)) for path in self.annotations if not path.is_file()]
        if self.image.is_file():
            return f"The image {image} has no label {absent[0]}." if absent else None
        if absent:
            return f"{self.id!r} has neither an image {image} nor a label {absent[0]}."
        label = f"The label {str(self.annotations[0])!r}" if self.annotations else f"{self.id!r}"
        return f"{label} has no image {image}."
