"""Attention sources: the part that knows the backbone."""

from diffsegkit.sources.affinity import AffinitySource
from diffsegkit.sources.cached import CachedSource
from diffsegkit.sources.stable_diffusion import StableDiffusionSource
from diffsegkit.sources.vision_transformer import VisionTransformerSource

__all__ = ["AffinitySource", "CachedSource", "StableDiffusionSource", "VisionTransformerSource"]
