"""How much noise a latent has at a step of flow matching, and which timestep that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class NoiseSchedule:
    """The model's own schedule, as its pipeline in diffusers sets it.

    A noisy latent is ``(1 - sigma) * latent + sigma * noise`` (Esser et al., 2024, equation 13).

    Args:
        config: Of the ``FlowMatchEulerDiscreteScheduler``.
        evenly: Whether the pipeline asks for equally spaced sigmas from 1 to 1/steps, as FLUX's
            does, or leaves them to the scheduler, as that of Stable Diffusion 3.
    """

    def __init__(self, config: Mapping[str, Any], evenly: bool) -> None:
        self.config = dict(config)
        self._evenly = evenly and not self.config.get("use_flow_sigmas", False)

    def level(self, noise_steps: int, steps: int, locations: int) -> tuple[Tensor, Tensor]:
        """The noise that a number of steps would take away.

        Args:
            noise_steps: From 0, no noise, to ``steps``.
            steps: How many there are from noise to image.
            locations: How many tokens the image is; some models have more noise in larger images.

        Returns:
            Sigma, from 0 to 1, and the timestep, from 0 to 1000; both float32, without dimensions.
        """
        if noise_steps == 0:
            return torch.zeros(()), torch.zeros(())
        from diffusers import FlowMatchEulerDiscreteScheduler

        # A new one each time: it keeps what it was last asked for, and threads may share us.
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.config)
        spacing = [1 - step / steps for step in range(steps)] if self._evenly else None
        shift = self._shift(scheduler.config, locations)
        scheduler.set_timesteps(steps, sigmas=spacing, mu=shift)
        index = steps - noise_steps
        return scheduler.sigmas[index].cpu(), scheduler.timesteps[index].cpu()

    def _shift(self, config: Mapping[str, Any], locations: int) -> float | None:
        """Linear in the number of tokens, through two points of the configuration."""
        if not config["use_dynamic_shifting"]:
            return None
        few, many = config["base_image_seq_len"], config["max_image_seq_len"]
        low, high = config["base_shift"], config["max_shift"]
        slope = (high - low) / (many - few)
        return float(low + slope * (locations - few))
