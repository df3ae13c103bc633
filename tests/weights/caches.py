"""The hub's cache with models in it, as a download leaves it."""

from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache_model(cache, model, folder):
    """Put a model's folder into a cache.

    Args:
        cache: The cache's folder.
        model: The model's id on the hub.
        folder: Where the files are; they are linked to.
    """
    place = Path(cache) / f"models--{model.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots").mkdir()
    (place / "snapshots" / COMMIT).symlink_to(folder.resolve(), target_is_directory=True)
