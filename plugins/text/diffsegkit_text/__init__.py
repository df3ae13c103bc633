"""Names for segments: by cross-attention to the nouns of a prompt or a caption, and by CLIP."""

from diffsegkit_text.blip import BLIPCaptioner
from diffsegkit_text.captioned import CaptionedSource, Captioner
from diffsegkit_text.clip import CLIPNamer
from diffsegkit_text.cross_attention import CrossAttentionNamer
from diffsegkit_text.nouns import nouns_of

__all__ = [
    "BLIPCaptioner",
    "CLIPNamer",
    "CaptionedSource",
    "Captioner",
    "CrossAttentionNamer",
    "nouns_of",
]
