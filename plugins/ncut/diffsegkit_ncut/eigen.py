"""The eigenvectors of a normalised cut, the same from every solver."""

from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, eigsh  # type: ignore[import-untyped]
from torch import Tensor

from diffsegkit.errors import UsageError
from diffsegkit_ncut.affinity import check_choice

Eigensolver = Literal["auto", "dense", "arpack", "lobpcg"]
"""How eigenvectors are found."""

# Below this, LAPACK is faster than starting an iteration.
_SMALL = 200


def cut_vectors(
    weights: Tensor, count: int = 2, solver: Eigensolver = "auto"
) -> tuple[Tensor, Tensor]:
    """Solve ``(D - W) y = v D y`` for the smallest eigenvalues (Shi and Malik, PAMI 2000).

    Solved as ``D^-1/2 W D^-1/2 u = (1 - v) u`` with ``y = D^-1/2 u``, for its largest eigenvalues.
    An eigenvector is determined up to its sign alone: here the entry with the largest magnitude is
    positive, the first of those that are equal to six digits. So all solvers give the same, except
    where two eigenvalues are (nearly) equal: there any mixture of their vectors is as good, and
    each solver has its own.

    Args:
        weights: ``(N, N)``, symmetric, at least 0; each location must be linked to some other or
            to itself.
        count: How many, from the smallest eigenvalue, which is 0, on.
        solver: ``"dense"`` is LAPACK's, of all eigenvectors, the reference; ``"arpack"`` is
            SciPy's Lanczos iteration; ``"lobpcg"`` is torch's, which stays on a GPU; ``"auto"``
            takes ``dense`` for small graphs, ``arpack`` on a CPU and ``lobpcg`` elsewhere.

    Returns:
        Eigenvalues ``(count,)``, rising, in 0..2, and eigenvectors ``(N, count)``, of unit length
        in the norm of D; float64.

    Raises:
        ValueError: If the solver is unknown, there are not ``count`` eigenvectors, or a location
            has no link.
        UsageError: If an iteration does not converge; the message names the solver that will.

    Example:
        >>> import torch
        >>> two_pairs = torch.tensor([[1, 1, 0.1, 0], [1, 1, 0, 0], [0.1, 0, 1, 1], [0, 0, 1, 1]])
        >>> values, vectors = cut_vectors(two_pairs)
        >>> vectors[:, 1] > 0
        tensor([ True,  True, False, False])
    """
    check_choice("solver", solver, Eigensolver)
    wide = weights.double()
    degree = wide.sum(1)
    if not 1 <= count <= len(wide):
        raise ValueError(
            f"Expected argument `count` between 1 and the {len(wide)} locations, but got {count}."
        )
    if float(degree.min()) <= 0:
        raise ValueError("Expected every location to be linked to something, but one is not.")
    root = degree.sqrt()
    # Symmetric to the last bit, which LAPACK and ARPACK rely on.
    normalised = wide / (root[:, None] * root)
    if solver == "auto":
        small = len(wide) <= max(_SMALL, 6 * count)
        solver = "dense" if small else "arpack" if wide.device.type == "cpu" else "lobpcg"
    values, vectors = _largest(normalised, root, count, solver)
    order = values.argsort(descending=True, stable=True)
    values, vectors = values[order], vectors[:, order] / root[:, None]
    vectors = vectors / (vectors.square() * degree[:, None]).sum(0).sqrt()
    return (1 - values).clamp(0, 2), with_fixed_signs(vectors)


def with_fixed_signs(vectors: Tensor) -> Tensor:
    """The same vectors, the entry of the largest magnitude being positive in each.

    Args:
        vectors: ``(N, count)``.
    """
    magnitude = vectors.abs()
    leading = magnitude >= magnitude.amax(0) * (1 - 1e-6)
    # The first of the leading entries, whatever rounding makes of equal ones.
    first = leading.byte().argmax(0)
    signs = vectors.gather(0, first[None]).sign()
    return torch.where(signs == 0, vectors, vectors * signs)


def _largest(
    matrix: Tensor, root: Tensor, count: int, solver: Eigensolver
) -> tuple[Tensor, Tensor]:
    """Of a symmetric matrix the largest eigenvalues, in any order, with their eigenvectors."""
    number = len(matrix)
    if solver == "arpack" and count < number:
        # From a fixed start, or equal inputs would differ in their last digits. The trivial
        # eigenvector alone would be an invariant subspace, in which nothing else is found.
        begin = _start(number, 1)[:, 0].numpy()
        try:
            found = eigsh(matrix.cpu().numpy(), k=count, which="LA", v0=begin, tol=1e-10)
        except ArpackError as error:
            raise UsageError(
                f"The eigensolver arpack failed on {number} locations ({error}); use "
                "eigensolver dense."
            ) from error
        values, vectors = (torch.from_numpy(np.ascontiguousarray(each)) for each in found)
        return values.to(matrix.device), vectors.to(matrix.device)
    if solver == "lobpcg" and 3 * count <= number:
        start = _start(number, count).to(matrix.device)
        start[:, 0] = root
        values, vectors = torch.lobpcg(
            matrix, k=count, X=start, largest=True, tol=1e-10, niter=1000
        )
        residual = (matrix @ vectors - vectors * values).norm(dim=0).max()
        if float(residual) > 1e-6:
            raise UsageError(
                f"The eigensolver lobpcg did not converge on {number} locations (residual "
                f"{float(residual):.1e}); use eigensolver dense."
            )
        return values, vectors
    values, vectors = torch.linalg.eigh(matrix)
    return values[-count:], vectors[:, -count:]


def _start(number: int, count: int) -> Tensor:
    """Vectors without any symmetry that a graph may have, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, count, generator=generator, dtype=torch.float64)
