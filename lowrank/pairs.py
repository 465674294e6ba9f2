"""The column-row pairs of a product: scales taken out, Gram matrix by columns, scores and least-squares weights."""

from dataclasses import dataclass

import numpy as np

from ._checks import check_array
from .passes import squared_norms

BLOCK = 512  # columns of the Gram matrix, or rows of the product, that are held at a time


@dataclass(frozen=True, eq=False)
class Pairs:
    """``X Y = 2^exponent B Y'`` with column i of B times row i of Y' the i-th pair.

    Where squares could leave the range of floating point, the exponents of each column and row are taken out, as
    powers of two, and the pair's are given to B: rounding nothing, and a square vanishes only where the pair is below
    1e-150 of the largest. Elsewhere B is X, Y' is Y and the exponents are zero.

    size : (n,) the norms ``|x_i| |y_i|`` over 2^exponent;  columns, rows : the exponents taken out.
    """

    B: np.ndarray
    Y: np.ndarray
    size: np.ndarray
    exponent: int
    columns: np.ndarray
    rows: np.ndarray
    original_X: np.ndarray
    original_Y: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, X, Y) -> "Pairs":
        notes: list[str] = []
        X, Y = _matrix(X, "X", notes), _matrix(Y, "Y", notes)
        if X.shape[1] != Y.shape[0]:
            raise ValueError(
                f"X has {X.shape[1]} columns, but Y has {Y.shape[0]} rows (shapes {X.shape} and {Y.shape}); "
                "they must agree"
            )
        dtype = np.result_type(X, Y)
        X, Y = X.astype(dtype, copy=False), Y.astype(dtype, copy=False)
        reach = 1e8 if dtype.char in "fF" else 1e140
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            own = squared_norms(X), squared_norms(Y.T)
        if _within(X, own[0], reach) and _within(Y.T, own[1], reach):
            none = np.zeros(X.shape[1], dtype=np.int64)
            return cls(X, Y, np.sqrt(own[0] * own[1]), 0, none, none, X, Y, tuple(notes))
        columns, rows = _exponents(X, "X", 0), _exponents(Y, "Y", 1)
        together = columns + rows
        scaled_X, scaled_Y = _ldexp(X, -columns), _ldexp(Y, -rows[:, None])
        size = np.linalg.norm(scaled_X, axis=0).astype(np.float64) * np.linalg.norm(scaled_Y, axis=1)
        alive = size > 0
        exponent = int(together[alive].max()) if alive.any() else 0
        largest = (together[alive] + np.log2(size[alive])).max(initial=-np.inf)
        if largest >= np.finfo(dtype).maxexp:
            raise ValueError(
                f"X @ Y leaves the range of {dtype}: a pair has norm 2^{largest:.0f}; scale X or Y down first"
            )
        shift = np.where(alive, together - exponent, 0)
        B = _ldexp(scaled_X, shift)
        return cls(B, scaled_Y, np.ldexp(size, shift), exponent, columns, rows, X, Y, tuple(notes))

    @property
    def count(self) -> int:
        return self.B.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.B.dtype

    @property
    def entries(self) -> int:
        return self.B.size + self.Y.size

    def magnified(self, value: float) -> float:
        return float(np.ldexp(value, self.exponent))

    def gram(self, J) -> np.ndarray:
        """Inner products ``<x_i y_i, x_j y_j> = (x_i^* x_j) (y_j y_i^*)`` of all pairs i with the pairs J, (n, |J|)."""
        return ((self.B[:, J].conj().T @ self.B).T * (self.Y @ self.Y[J].conj().T)).conj()

    def with_product(self) -> np.ndarray:
        """Inner products ``<x_i y_i, X Y>`` of all pairs with the product, by whichever of two ways is cheaper."""
        m, n, p = len(self.B), self.count, self.Y.shape[1]
        total = np.zeros(n, dtype=np.result_type(self.dtype, np.float64))
        if n * (m + p) < 2 * m * p:
            for j in range(0, n, BLOCK):
                total += self.gram(slice(j, j + BLOCK)).sum(axis=1)
        else:
            for i in range(0, m, BLOCK):
                block = self.B[i : i + BLOCK]
                total += np.einsum("ij,ij->j", block.conj(), (block @ self.Y) @ self.Y.conj().T)
        return total

    def diagonal_weights(self, J: np.ndarray) -> np.ndarray:
        """The w that minimises ``||X Y - sum_s w_s x_s y_s||_F``: normal equations in the Gram matrix of the pairs.

        Each pair is first brought to norm one, which is the scaling that conditions the equations best to within a
        factor k (van der Sluis 1969, doi 10.1007/BF02165096); what is dependent to rounding takes the least weights.
        """
        columns, rows = self.B[:, J].conj().T @ self.B, self.Y @ self.Y[J].conj().T
        G = (columns[:, J].T * rows[J]).conj().astype(np.result_type(self.dtype, np.float64))
        right = np.sum(columns * rows.T, axis=1)
        own = np.real(G.diagonal())
        unit = 1.0 / np.sqrt(np.where(own > 0, own, 1.0))
        cutoff = max(1, len(J)) * float(np.finfo(self.dtype).eps)
        inverse = np.linalg.pinv(G * np.outer(unit, unit), rcond=cutoff, hermitian=True)
        return unit * (inverse @ (unit * right))

    def full_weights(self, J: np.ndarray) -> np.ndarray:
        """The L that minimises ``||B Y' - B_J L Y'_J||_F``: ``L = B_J^+ B Y' Y'_J^+``."""
        unit = _unit(np.linalg.norm(self.B[:, J], axis=0))
        return unit[:, None] * (_coefficients(self.B[:, J] * unit, self.B) @ _coefficients(self.Y[J].T, self.Y.T).T)

    def unscaled(self, L: np.ndarray, J: np.ndarray) -> np.ndarray:
        """Full weights for the pairs as they came: ``B_s = x_s 2^(rows_s - exponent)`` and ``Y'_t = y_t 2^-rows_t``."""
        return _ldexp(L, self.rows[J][:, None] - self.rows[J])


def norm_odds(pairs: Pairs) -> np.ndarray:
    """Probabilities proportional to ``|x_i| |y_i|``; Drineas, Kannan and Mahoney (2006), equation 7."""
    return pairs.size / pairs.size.sum()


def leverage_odds(pairs: Pairs, k: int, rng: np.random.Generator) -> np.ndarray:
    """Half by the mean leverage of column i of X and row i of Y in their k leading directions, half by norm.

    The second half keeps every probability at half of the optimal one at least: unbiased always, and never more than
    twice the variance of the best draws.
    """
    from .selection.osinsky import basis
    from .selection.working import working
    from .sketching import SparseStack

    scores = np.zeros(pairs.count)
    for A in (pairs.original_X, pairs.original_Y.T):
        if pairs.exponent or pairs.rows.any():
            A = working(A)
        height = k + 8
        V, _ = basis(working(A if len(A) <= height else SparseStack.draw(height, len(A), rng) @ A), k)
        scores += squared_norms(V.T) / max(V.shape[1], 1)
    scores[pairs.size == 0] = 0.0
    return 0.5 * scores / scores.sum() + 0.5 * norm_odds(pairs) if scores.any() else norm_odds(pairs)


def greedy(pairs: Pairs, k: int, *, weighted: bool) -> np.ndarray:
    """At most k pairs, each the one that lowers the error most; fewer where none does.

    With unit weights adding pair i lowers the squared error by ``2 Re c_i - |x_i y_i|^2``, c its inner products with
    the residual. With optimal diagonal weights by ``|c_i|^2 / d_i``, d_i the squared norm of pair i off those chosen;
    c and d follow by orthogonal least squares (Chen, Billings and Luo 1989), a pivoted Cholesky of the Gram matrix of
    which only the columns of chosen pairs are ever formed.
    """
    n = pairs.count
    c = pairs.with_product()
    own = pairs.size**2
    d = own.copy()
    taken = ~(own > 0)
    eps = np.finfo(pairs.dtype).eps
    factor = np.zeros((k, n), dtype=c.dtype)
    chosen: list[int] = []
    won = 0.0
    for t in range(k):
        if weighted:
            usable = ~taken & (d > 10 * n * eps * own)
            gain = np.where(usable, np.abs(c) ** 2 / np.where(usable, d, 1.0), 0.0)
        else:
            gain = np.where(taken, 0.0, 2 * np.real(c) - own)
        s = int(gain.argmax())
        if not gain[s] > (n * eps) ** 2 * won:
            break
        won += float(gain[s])
        chosen.append(s)
        taken[s] = True
        column = pairs.gram([s])[:, 0].astype(c.dtype)
        if weighted:
            column -= factor[:t].T @ factor[:t, s].conj()
            column /= np.sqrt(d[s])
            factor[t] = column
            c -= column * (c[s] / np.sqrt(d[s]))
            d = np.maximum(d - np.abs(column) ** 2, 0.0)
        else:
            c -= column
    return np.array(chosen, dtype=np.int64)


def _matrix(A, name: str, notes: list[str]) -> np.ndarray:
    """A as a two-dimensional array of floating-point numbers."""
    if not isinstance(A, (np.ndarray, list, tuple)):
        kind = f"{type(A).__module__}.{type(A).__qualname__}"
        raise TypeError(f"{name} is a {kind}; cr reads numpy arrays, so convert it first (.toarray(), .numpy())")
    A = check_array(A, name)
    if A.ndim != 2:
        raise ValueError(f"{name} has shape {A.shape}; cr needs two dimensions, so reshape it")
    if A.dtype.kind in "iub":
        notes.append(f"{name} converted from {A.dtype} to float64")
        A = A.astype(np.float64)
    if A.dtype.char not in "fdFD":
        raise TypeError(f"{name} has dtype {A.dtype}; cr reads float32, float64, complex64, complex128; convert it")
    return A


def _exponents(A: np.ndarray, name: str, axis: int) -> np.ndarray:
    """The binary exponent of the largest part in each column (axis 0) or row (axis 1); 0 where all vanish."""
    largest = np.maximum(np.abs(np.real(A)).max(axis=axis, initial=0.0), np.abs(np.imag(A)).max(axis=axis, initial=0.0))
    if not np.isfinite(largest).all():
        i, j = (int(x) for x in np.argwhere(~np.isfinite(A))[0])
        raise ValueError(f"{name}[{i}, {j}] is {A[i, j]}; cr needs finite entries, so remove or impute them first")
    return np.frexp(largest)[1].astype(np.int64)


def _ldexp(A: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """``A * 2**exponents`` as a new C-ordered array; over- and underflow are the caller's to judge."""
    out = np.empty(A.shape, dtype=A.dtype)
    with np.errstate(over="ignore", under="ignore"):
        if A.dtype.kind == "c":
            out.real, out.imag = np.ldexp(np.real(A), exponents), np.ldexp(np.imag(A), exponents)
        else:
            np.ldexp(A, exponents, out=out)
    return out


def _within(A: np.ndarray, squares: np.ndarray, reach: float) -> bool:
    """True where the squared norms of all columns but zero ones lie between 1 / reach and reach."""
    empty = squares == 0
    inside = (squares >= 1 / reach) & (squares <= reach)  # False for NaN
    return bool((inside | empty).all()) and not A[:, empty].any()


def _coefficients(C: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Z of least ``||B - C Z||``, by pivoted QR; columns of C that depend on others to rounding get zeros."""
    from .selection.working import pivoted_qr

    Q, R, order = pivoted_qr(C)
    size = np.abs(R.diagonal())
    rank = int(np.count_nonzero(size > max(C.shape) * np.finfo(C.dtype).eps * size.max(initial=0.0)))
    Z = np.zeros((C.shape[1], B.shape[1]), dtype=C.dtype)
    Z[order[:rank]] = np.linalg.solve(R[:rank, :rank], Q[:, :rank].conj().T @ B)
    return Z


def _unit(norms: np.ndarray) -> np.ndarray:
    return 1.0 / np.where(norms > 0, norms, 1.0)
