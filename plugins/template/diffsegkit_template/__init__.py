"""Two proposals: what is near the mean map, and the rest."""

from diffsegkit_template.template import TemplateMerger

__all__ = ["TemplateMerger"]
