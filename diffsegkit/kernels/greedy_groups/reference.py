"""The walk on the host, where no step waits for a GPU."""

import numpy as np
import torch
from torch import Tensor


def greedy_groups_reference(close: Tensor, overlap: bool) -> tuple[Tensor, Tensor]:
    """Groups by a walk over rows of bits, each one Python integer.

    Args:
        close: ``(K, K)`` bool.
        overlap: Whether a candidate that is taken may enter later groups.

    Returns:
        Members ``(count, K)`` bool and seeds ``(count,)`` int64, where ``close`` is.
    """
    number = len(close)
    # The only transfer from the device; bit j of a row is its column j.
    rows = np.packbits(close.cpu().numpy(), axis=1, bitorder="little")
    ahead, taken = (1 << number) - 1, 0  # what is neither taken nor passed; what is taken
    groups, seeds = [], []
    while ahead:
        seed = (ahead & -ahead).bit_length() - 1
        group = int.from_bytes(rows[seed].tobytes(), "little")
        if not overlap:
            group &= ~taken
        taken |= group
        # A seed whose group lacks it is passed, though not taken.
        ahead &= ~(group | 1 << seed)
        groups.append(group.to_bytes(rows.shape[1], "little"))
        seeds.append(seed)
    bits = np.frombuffer(b"".join(groups), np.uint8).reshape(len(groups), rows.shape[1])
    members = np.unpackbits(bits, axis=1, count=number, bitorder="little").view(np.bool_)
    chosen = torch.tensor(seeds, dtype=torch.int64, device=close.device)
    return torch.from_numpy(members).to(close.device), chosen
