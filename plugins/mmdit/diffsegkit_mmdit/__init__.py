"""Attention of multi-modal diffusion transformers: Stable Diffusion 3 and 3.5, and FLUX.1."""

from diffsegkit_mmdit.flux import FluxSource
from diffsegkit_mmdit.merger import SourceProposalsMerger
from diffsegkit_mmdit.proposals import token_proposals
from diffsegkit_mmdit.stable_diffusion_3 import StableDiffusion3Source

__all__ = ["FluxSource", "SourceProposalsMerger", "StableDiffusion3Source", "token_proposals"]
