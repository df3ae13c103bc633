"""Make installed distributions with entry points, as pip would leave them."""

import sys
import textwrap

GROUPS = {
    "mergers": "diffsegkit.mergers",
    "presets": "diffsegkit.presets",
    "sources": "diffsegkit.attention_sources",
}

MERGER = """
    import torch
    from diffsegkit import Merger, Proposals

    class WholeImage(Merger):
        def __init__(self, factor: float = 1.0) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, aggregated, *, num_segments=None):
            return [Proposals(rows.mean(0).reshape(1, *aggregated.grid)) for rows in aggregated.probs]
"""


def install(site, name, module, entry_points, version="1.2", summary="A plugin for tests."):
    """Write a distribution with one module into the folder ``site``."""
    (site / f"{name}.py").write_text(textwrap.dedent(module))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
    )
    (info / "entry_points.txt").write_text(
        "".join(f"[{GROUPS[kind]}]\n{line}\n" for kind, line in entry_points)
    )


def forget(*names):
    """Drop modules, so that a test sees them imported or not."""
    for name in names:
        sys.modules.pop(name, None)
