"""The mappings that come with the package."""

from functools import cache
from importlib.resources import as_file, files

from diffsegkit.data.mapping import ClassMapping
from diffsegkit.data.mapping_file import read_mapping

LABELMAPS = files("diffsegkit.data") / "labelmaps"


@cache
def builtin_mapping(name: str) -> ClassMapping:
    """A mapping of ``labelmaps``, whose README says where each comes from.

    Args:
        name: Of the file, without suffix.

    Example:
        >>> builtin_mapping("cityscapes27").values[33]
        26
    """
    with as_file(LABELMAPS / f"{name}.json") as path:
        return read_mapping(path)
