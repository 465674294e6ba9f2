"""The first pass over a matrix: sketch, probes and norms together, with non-finite and extreme entries dealt with."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._threads import blas_threads
from .operands import Operand
from .sketching import Embedding, Sketch, SparseStack, Tabled, as_embedding

if TYPE_CHECKING:
    from .selection.base import Candidates

PROBES = 10
BUCKETS = 32  # rows of a hash for each probe that is put together from it
TABLE = 4096  # Gaussian vectors that the probes of a long matrix are put together from


@dataclass(frozen=True, eq=False)
class FirstPass:
    """An operand (scaled where its squares would overflow or vanish) with its sketch."""

    operand: Operand
    sketch: Sketch
    exact: bool
    rng: np.random.Generator
    embedding: Embedding | None = None  # None where the sketch is the matrix itself

    @property
    def source(self) -> str:
        """What coefficients come from, as `explain()` says it."""
        if self.embedding is None:
            return "A itself"
        return f"a {self.embedding.name} sketch of {len(self.sketch.Y)} rows"

    def candidates(self, k: int, indices: np.ndarray | None = None, careful: bool = False) -> "Candidates":
        from .selection.base import Candidates

        return Candidates(self.sketch.Y, self.sketch.squared_norms, k, self.rng, self.exact, indices, careful)


def squared_norms(A: np.ndarray) -> np.ndarray:
    """Squared column norms in double precision."""
    parts = [np.real(A), np.imag(A)] if A.dtype.kind == "c" else [A]
    return np.sum([np.einsum("ij,ij->j", part, part, dtype=np.float64) for part in parts], axis=0)


def unit(largest: float, dtype) -> float:
    """The power of two that brings `largest` to [1/2, 1), or as near as one factor can; it rounds nothing."""
    return math.ldexp(1.0, min(-math.frexp(largest)[1], int(np.finfo(dtype).maxexp) - 2))


def sketch_height(k: int) -> int:
    """Rows of the sketch: 3 k, because oversampling is what the coefficients live on and rows cost little."""
    return 3 * k + 16


def draw_probes(p: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """p Gaussian probes of length m as a (p, m) array: of independent entries, or for a long m from `draw_table`."""
    return rng.standard_normal((p, m)) if m <= 8 * TABLE else draw_table(p, m, rng).to_dense()


def draw_table(p: int, m: int, rng: np.random.Generator) -> Tabled:
    """The probes ``g T`` of length m.

    T is a random map of `TABLE` rows with one +-1 in each column, so that ``E |g T E|^2 = E ||T E||^2 = ||E||^2``
    still, and the variance of p probes, 2 / p of the square at worst, rises by 2 / TABLE of it. Drawing 10 x 200000
    normal numbers would take half as long as sketching a sparse matrix with twice as many entries.
    """
    g = rng.standard_normal((TABLE, p))
    return Tabled(np.concatenate([g, -g]), rng.integers(0, 2 * TABLE, size=m, dtype=np.int16).astype(np.int32))


def with_probes(found: Sketch, g: np.ndarray) -> Sketch:
    """The last rows of the sketch, ``T A``, turned into p probes ``g T A`` with the (p, h) Gaussian g.

    T has one +-1 in each column and h = 32 p rows, so that this costs one addition for each entry of A in place of 2 p
    flops. As for `draw_probes`, the mean stays, and the variance rises by no more than p / h, 3 %.
    """
    Y = found.Y[: -g.shape[1]]
    tail = found.Y[-g.shape[1] :]
    flat = tail.view(np.real(tail).dtype)
    with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):
        W = (g.astype(flat.dtype) @ flat).view(tail.dtype)
    return Sketch(Y, W, found.squared_norms, found.loose)


def first_pass(
    operand: Operand,
    k: int,
    rng: np.random.Generator,
    *,
    probes: int,
    workers: int,
    omega: Any = None,
    height=None,
    sketch: str | Embedding = "sparse",
) -> FirstPass:
    """Read the matrix once; where m <= 3 k + 16 the sketch is the matrix itself, unless the user gave one.

    `omega`, a (p, m) array, overrules the Gaussian probes drawn otherwise, and `height` the rows of the sketch; what
    `sketch` is has been checked.
    """
    m, n = operand.shape
    height = height or sketch_height(k)
    exact = m <= height and isinstance(sketch, str)
    embedding = None if exact else as_embedding(sketch, height, m, rng)
    stack: Any = None
    g: Any = None
    if omega is None and probes:
        # more probes are split between purposes that must not share a hash
        few = probes <= PROBES and m > 8 * BUCKETS * probes
        if few and operand.hashed and isinstance(embedding, SparseStack):
            stack, g = embedding.beside(BUCKETS * probes, rng), rng.standard_normal((probes, BUCKETS * probes))
        else:
            tabled = operand.tabled and isinstance(embedding, SparseStack) and m > 8 * TABLE
            omega = (draw_table if tabled else draw_probes)(probes, m, rng)

    def read(op: Operand) -> Sketch:
        if stack is not None:
            return with_probes(op.sketch(stack, workers=workers), g)
        if embedding is not None:
            return op.sketch(embedding, omega, workers=workers)
        with np.errstate(over="ignore", invalid="ignore"):
            Y = op.rows(np.arange(m), workers=workers)
            norms = squared_norms(Y)
            W = np.zeros((0, n), Y.dtype) if omega is None else omega.astype(np.real(Y).dtype) @ Y
        return Sketch(Y, W, norms)

    found = read(operand)
    info = np.finfo(operand.dtype)
    total = found.squared_norm
    in_range = math.isfinite(total) and total < 1e-4 * float(info.max) and np.isfinite(found.W).all()
    if not in_range or total < float(info.tiny) / float(info.eps) ** 2:
        largest = operand.largest()  # raises, with the position, where an entry is not finite
        operand._served(operand.size)
        if largest > 0:
            operand = operand.scaled(unit(largest, operand.dtype))  # squares of m n entries then stay in range
            found = read(operand)
    if not np.isfinite(found.Y).all():
        raise ValueError("the sketch of A has NaN or inf, though A itself is finite; pass a sketch of smaller numbers")
    return FirstPass(operand, found, exact, rng, embedding)
