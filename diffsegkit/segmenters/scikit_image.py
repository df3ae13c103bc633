"""The optional package behind the classical baselines."""

from types import ModuleType

from diffsegkit.errors import ComponentError


def segmentation_functions(owner: str) -> ModuleType:
    """``skimage.segmentation``, or an error that names the extra.

    Args:
        owner: Who needs it.

    Raises:
        ComponentError: If scikit-image is not installed.
    """
    try:
        import skimage.segmentation
    except ModuleNotFoundError as error:
        if error.name != "skimage":
            raise
        raise ComponentError(
            f"{owner} needs scikit-image: pip install 'diffsegkit[baselines]'."
        ) from error
    module: ModuleType = skimage.segmentation
    return module
