"""Whether a model is here, without asking the hub."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from diffsegkit.errors import WeightsError
from diffsegkit.weights.cache import CachedModel, cached
from diffsegkit.weights.check import check_folder, check_model, files_in
from diffsegkit.weights.content import check_safetensors
from diffsegkit.weights.files import ModelFiles
from diffsegkit.weights.local import local_folder
from diffsegkit.weights.size import size_of


@dataclass(frozen=True)
class ModelState:
    """What is here of a model.

    Args:
        folder: Where it is, or would be; a single file's own path.
        names: The files that are needed, if all are here.
        size: Of what is here, in bytes: of the needed files if all are here, otherwise of what a
            download has brought so far.
        problem: What is missing or wrong, in a sentence; empty if the model is complete.
    """

    folder: Path
    names: tuple[str, ...] = ()
    size: int = 0
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether all that is needed is here, whole."""
        return not self.problem


def model_state(files: ModelFiles) -> ModelState:
    """Look at a folder, into the hub's cache, or at a single file; of weights the headers are read.

    Args:
        files: The model, and what is needed of it. Whether a single ``.safetensors`` file has it
            all is for the source to say; here it is whole or not.

    Raises:
        WeightsError: If it is neither a folder, a ``.safetensors`` file nor an id on the hub.
        ComponentError: If it is an id, and huggingface_hub is not installed.
    """
    file = Path(files.model).expanduser()
    if file.suffix == ".safetensors" and file.is_file():
        return _state_of_file(file)
    folder = local_folder(files.model)
    if folder is not None:
        return _state(folder, files, lambda: check_folder(folder, files))
    place = cached(files.model, files.revision)
    state = ModelState(place.folder, problem=f"{files.model!r} is not in the cache.")
    if (snapshot := place.snapshot) is not None:
        name, remedy = f"{files.model!r} in the cache", "a download brings the rest"
        state = _state(snapshot, files, lambda: check_model(snapshot, files, name, remedy))
    return state if state.complete else replace(state, size=_size_here(place))


def _state_of_file(file: Path) -> ModelState:
    try:
        check_safetensors(file)
    except WeightsError as error:
        return ModelState(file, problem=str(error))
    return ModelState(file, (file.name,), size_of(file))


def _state(folder: Path, files: ModelFiles, check: Callable[[], None]) -> ModelState:
    try:
        check()
    except WeightsError as error:
        return ModelState(folder, problem=str(error))
    names = files_in(folder, files)
    size = sum(size_of(folder / name) for name in names)
    return ModelState(folder, tuple(names), size)


def _size_here(place: CachedModel) -> int:
    """The bytes that are here of any revision, those of interrupted downloads included."""
    blobs = place.folder / "blobs"
    return sum(map(size_of, blobs.iterdir())) if blobs.is_dir() else 0
