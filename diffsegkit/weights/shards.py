"""Weights in several files, and the index that lists them."""

from pathlib import Path

from diffsegkit.errors import WeightsError
from diffsegkit.weights.content import read_json
from diffsegkit.weights.listing import is_plain_name


def is_index(name: str) -> bool:
    """Whether what holds the weights is a list of their shards.

    Args:
        name: Of the file or index.
    """
    return name.endswith(".json")


def shards_of(folder: Path, index: str) -> list[str]:
    """The shards that an index lists.

    Args:
        folder: The model's folder.
        index: The index, relative to it.

    Returns:
        Names relative to the model's folder.

    Raises:
        WeightsError: If the index is damaged, or names files elsewhere or of another format.
    """
    parent = index.rpartition("/")[0]
    shards = dict.fromkeys(weight_map(folder / index).values())
    return [f"{parent}/{shard}" if parent else shard for shard in shards]


def weight_map(index: Path) -> dict[str, str]:
    """Which file each tensor is in, as an index says.

    Args:
        index: The index.

    Returns:
        Names of files beside the index, by the tensors' names.

    Raises:
        WeightsError: If the index is damaged, or names files elsewhere or of another format.
    """
    content = read_json(index)
    tensors = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise WeightsError(
            f"Expected {str(index)!r} to list tensors and their files in a 'weight_map', but it "
            "does not; copy or download it again."
        )
    for shard in tensors.values():
        if not is_plain_name(shard) or not shard.endswith(".safetensors"):
            raise WeightsError(
                f"{str(index)!r} lists {shard!r} among its files: expected names of safetensors "
                "files beside it; download it again, from a place that you trust."
            )
    return tensors
