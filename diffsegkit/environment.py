"""What a result was computed with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = (
    "diffsegkit", "torch", "lightning", "torchmetrics", "triton", "kornia", "numpy", "scipy",
    "scikit-image", "pillow", "jsonargparse", "accelerate", "diffusers", "transformers",
    "huggingface_hub", "safetensors",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; absent ones left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """A device, with the model of a GPU.

    Args:
        device: The device.
    """
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def git_state(folder: Path) -> dict[str, str | bool] | None:
    """The commit that is checked out in a folder, and whether files differ from it.

    Args:
        folder: Anywhere in a repository.

    Returns:
        ``commit`` (hexadecimal) and ``changed``; None outside a repository, or without git.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": changed}


def _git(folder: Path, *arguments: str) -> str:
    found = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
    )
    return found.stdout.strip()
