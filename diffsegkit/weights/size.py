"""Sizes of files, and sizes as people read them."""

from pathlib import Path


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 if it is not there, or has just been moved by another process.

    Args:
        path: The file.
    """
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def readable_size(size: int) -> str:
    """A number of bytes, in decimal units as the hub gives them.

    Args:
        size: In bytes.

    Example:
        >>> readable_size(88_249_224), readable_size(312)
        ('88.2 MB', '312 bytes')
    """
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} byte{'s' * (size != 1)}"
