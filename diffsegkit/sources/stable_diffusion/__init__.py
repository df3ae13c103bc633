"""Stable Diffusion's attention; :mod:`.source` is the component, the rest its parts."""

from diffsegkit.sources.stable_diffusion.source import StableDiffusionSource

__all__ = ["StableDiffusionSource"]
