"""Whether a component works."""

from diffsegkit import registry
from diffsegkit.configuration import check_preset


def check(component: registry.Component) -> str | None:
    """Import a component, and look whether a preset's configuration is valid.

    Args:
        component: One that the registry found.

    Returns:
        A sentence that says what is wrong, or None.
    """
    problem = registry.check(component)
    if problem is None and component.kind == "presets":
        problem = check_preset(component.name)
    return problem
