"""Which model a preset's source loads."""

from diffsegkit import registry
from diffsegkit.errors import ComponentError, DiffSegKitError, UsageError
from diffsegkit.presets.preset import Part
from diffsegkit.weights import ModelFiles


def needed_files(source: Part) -> ModelFiles | None:
    """The files that a source loads; it is not constructed.

    Args:
        source: Class and arguments, see :func:`~diffsegkit.presets.part`.

    Returns:
        The model and what is needed of it, or None if the source needs no files.

    Raises:
        UsageError: If the class is unknown, or refuses the arguments.
    """
    name = source["class_path"]
    _, factory = registry.resolve("sources", name)
    try:
        found: ModelFiles | None = factory.weights(**source.get("init_args", {}))
    except DiffSegKitError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot say which files it needs: {error}.") from error
    if found is not None and not isinstance(found, ModelFiles):
        raise ComponentError(
            f"Expected {name}.weights() to return ModelFiles or None, but got {found!r}."
        )
    return found
