"""Speed and memory, beside the obvious PyTorch and the floor of what must be computed.

``diffsegkit bench`` runs it. A case is a file under :mod:`diffsegkit.bench.cases`.
"""
