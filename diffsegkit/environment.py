"""What a result was computed with."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("diffsegkit", "torch", "triton", "kornia", "numpy", "pillow", "jsonargparse")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; absent ones left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
