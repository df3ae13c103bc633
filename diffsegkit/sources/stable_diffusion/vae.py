"""The encoder half of Stable Diffusion's autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor


class VAEEncoder(AutoencoderKL):  # type: ignore[misc]
    """``AutoencoderKL`` that neither has nor loads a decoder.

    Its arguments are those of ``AutoencoderKL``.
    """

    _keys_to_ignore_on_load_unexpected = (r"^decoder\.", r"^post_quant_conv\.")

    overflows_in_half: bool = False
    """SDXL's does; then it stays in the dtype that it has when somebody asks for float16."""

    # diffusers reads the names of the arguments from the signature, which wraps() hands on.
    @wraps(AutoencoderKL.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        del self.decoder, self.post_quant_conv

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> VAEEncoder:
        def out_of_half(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype == torch.float16 else moved

        super()._apply(out_of_half if self.overflows_in_half else fn, recurse)
        return self
