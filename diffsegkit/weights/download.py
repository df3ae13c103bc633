"""Fetch what is needed of a model, and nothing else."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diffsegkit.errors import DownloadError, WeightsError
from diffsegkit.weights.cache import CachedModel, cached
from diffsegkit.weights.check import (
    check_folder,
    listed,
    read_model_index,
    refuse_incomplete,
)
from diffsegkit.weights.content import check_file
from diffsegkit.weights.fetch import fetch
from diffsegkit.weights.files import ModelFiles
from diffsegkit.weights.hub import HubModel, list_model
from diffsegkit.weights.hub_errors import disk_full, hub_errors
from diffsegkit.weights.listing import MODEL_INDEX, is_inside, plan_files
from diffsegkit.weights.local import local_folder
from diffsegkit.weights.shards import is_index, shards_of
from diffsegkit.weights.size import readable_size, size_of
from diffsegkit.weights.state import ModelState, model_state

_log = logging.getLogger("diffsegkit")


def download_model(files: ModelFiles) -> ModelState:
    """Fetch what is needed of a model into the hub's cache, unless it is there; and check it.

    What was interrupted, even by a crash, goes on where it stopped. Of each component the variant
    asked for is fetched, or the plain file; never anything but safetensors, JSON and text. On a
    terminal there is a progress bar.

    Args:
        files: The model, and what is needed of it; a folder is only checked.

    Returns:
        Where it is, complete.

    Raises:
        WeightsError: If the model, here or on the hub, lacks what is needed.
        DownloadError: If it cannot be fetched.
        ComponentError: If huggingface_hub is not installed.
    """
    state = model_state(files)
    if state.complete:
        return state
    if state.folder.is_file() or local_folder(files.model) is not None:
        raise WeightsError(state.problem)
    place = cached(files.model, files.revision)
    if not is_inside(place.revision):
        raise WeightsError(
            f"--source.revision: expected a branch, tag or commit, but got {place.revision!r}."
        )
    with hub_errors(files):
        return _Download(files, place, list_model(files)).run()


@dataclass(frozen=True)
class _Download:
    files: ModelFiles
    place: CachedModel
    hub: HubModel

    @property
    def folder(self) -> Path:
        return self.place.snapshot_of(self.hub.commit)

    def run(self) -> ModelState:
        names = self._names()
        self.place.remember(self.hub.commit)
        self._fetch(names)
        check_folder(self.folder, self.files)
        size = sum(size_of(self.folder / name) for name in names)
        return ModelState(self.folder, tuple(names), size)

    def _names(self) -> list[str]:
        """What is needed; the files that tell are fetched for it."""
        listing = set(self.hub.files)
        index = None
        if MODEL_INDEX in listing and any(each.optional for each in self.files.components):
            self._get(MODEL_INDEX)
            index = read_model_index(self.folder, self.files, listing)
        plan = plan_files(self.files, listing, index)
        model = f"The model {self.files.model!r} on the hub"
        another = "choose another with --source.model"
        refuse_incomplete(plan, model, another)
        names = list(plan.names)
        for _, weights in plan.weights:
            names.append(weights)
            if is_index(weights):
                self._get(weights)
                shards = shards_of(self.folder, weights)
                names += shards
                if lost := tuple(shard for shard in shards if shard not in listing):
                    raise WeightsError(f"{model} lacks {listed(lost)}; {another}.")
        return names

    def _fetch(self, names: Sequence[str]) -> None:
        # Small ones first: what is wrong with a model shows before gigabytes are fetched.
        names = sorted(names, key=lambda name: self.hub.files[name].size)
        total = sum(self.hub.files[name].size for name in names)
        here = sum(self._size_here(name) for name in names)
        todo, whole = readable_size(total - here), readable_size(total)
        rest = f", {todo} of them still to fetch" if todo != whole else ""
        count = f"{len(names)} file{'s' * (len(names) != 1)}"
        _log.info("%s: %s, %s%s", self.files.model, count, whole, rest)
        self._refuse_full_disk(total - here)
        with _progress(self.files.model, total, here) as report:
            for name in names:
                self._get(name, report)

    def _get(self, name: str, report: Callable[[int], None] = lambda _: None) -> None:
        """Have one file in the snapshot, whole."""
        from huggingface_hub import hf_hub_download

        file = self.hub.files[name]
        path = self.folder / name
        # Nobody takes away what another process has just mended.
        with self.place.locked(file.digest or self.hub.commit):
            if self._is_whole(name):
                return
            if path.exists() or path.is_symlink():
                self.place.remove(path, file.digest)
        if file.digest:
            fetch(file, self.hub.commit, self.place, report)
        # The content is there: this asks for its hash once more and links it.
        hf_hub_download(self.files.model, name, revision=self.hub.commit)

    def _is_whole(self, name: str) -> bool:
        file, path = self.hub.files[name], self.folder / name
        try:
            check_file(path)
        except WeightsError:
            return False
        return not file.digest or size_of(path) == file.size

    def _size_here(self, name: str) -> int:
        file, path = self.hub.files[name], self.folder / name
        if path.exists() and self._is_whole(name):
            return file.size
        places = (self.place.blob(file.digest), self.place.partial(file.digest))
        return min(max(map(size_of, places)), file.size) if file.digest else 0

    def _refuse_full_disk(self, needed: int) -> None:
        folder = self.place.root
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < needed:
            sizes = f" ({readable_size(needed)} needed, {readable_size(free)} free)"
            raise DownloadError(disk_full(self.files.model, sizes))


@contextmanager
def _progress(model: str, total: int, here: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; what is yielded takes each number of bytes received."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn(model),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # Without a terminal there is nobody to watch.
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=here)
        yield lambda received: bar.advance(task, received)
