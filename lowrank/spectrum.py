"""What one sketch tells of a spectrum: norms, numerical rank, and the rank that an error will need."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._threads import blas_threads, resolve_workers
from .operands import Operand, as_operand
from .passes import first_pass

TOLERANCES = (0.1, 0.01, 0.001)
LOOK = 150  # columns that the sketch is made for: 466 rows


@dataclass(frozen=True)
class Survey:
    """Estimates from one sketch of A.

    norm : ||A||_F, exact;  spectral : largest singular value of A on the sketch's leading vectors;  largest :
    max |a_ij|;  nonzero : entries that are not zero;  rank : numerical rank, None above `seen`;  ranks : for each
    tolerance, the rank whose tail in the sketch is below it, None above `seen`;  decay : in words;
    semidefinite : as far as a few entries tell.
    """

    norm: float
    spectral: float
    largest: float
    nonzero: int | None
    rank: int | None
    ranks: dict[float, int | None]
    seen: int
    decay: str
    semidefinite: bool
    dtype: np.dtype
    notes: tuple[str, ...]


def survey(A: Any, *, rng=None, workers: int | None = None) -> Survey:
    """Three passes over A and an SVD of a sketch with 3 k + 16 rows, k = min(m, n, 150).

    The singular values of ``S A`` follow those of A: the large ones within a few per cent, the tail within the factor
    that a sketch of thrice the rank allows (Martinsson and Tropp 2020, doi 10.1017/S0962492920000021, section 8).
    """
    operand = as_operand(A)
    m, n = operand.shape
    k = min(m, n, LOOK)
    start = first_pass(operand, k, np.random.default_rng(rng), probes=0, workers=resolve_workers(workers))
    largest = operand.largest() if m and n else 0.0
    factor = float(getattr(start.operand, "factor", 1.0))
    Y, total = start.sketch.Y, start.sketch.squared_norm
    with blas_threads(1):
        wide = Y.astype(np.result_type(Y, np.float64))
        # an SVD of R alone, because n is often much larger than the sketch is high
        R: Any = np.linalg.qr(wide.conj().T, mode="r")
        U, s, _ = np.linalg.svd(R.conj().T, full_matrices=False)
    seen = len(s) if start.exact else k  # beyond, the sketch's own tail is not A's
    spectral = 0.0
    with np.errstate(over="ignore"):
        norm = float(np.sqrt(total) / factor)
        if len(s) and total > 0:
            top = s[:5] > 1e-6 * s[0]
            V = (wide.conj().T @ U[:, :5][:, top] / s[:5][top]).astype(operand.dtype)
            spectral = float(np.linalg.norm(start.operand.matmat(V, workers=resolve_workers(workers)), 2) / factor)
    if not np.isfinite(norm):
        raise ValueError("the norm of A leaves the range of floating point; scale A first")
    tail = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0))
    ranks = {tol: _first(tail <= tol * np.sqrt(total), seen) for tol in TOLERANCES}
    floor = 4 * max(m, n, 1) * float(np.finfo(operand.dtype).eps) * (s[0] if len(s) else 0.0)
    rank = _first(np.append(s, 0.0) <= floor, seen, complete=len(s) == min(m, n))
    return Survey(
        norm, spectral, largest, _nonzero(operand), rank, ranks, seen, _decay(s[:seen]), _semidefinite(operand),
        operand.dtype, operand.notes,
    )  # fmt: skip


def _first(true: np.ndarray, seen: int, complete: bool = False) -> int | None:
    """The first position that holds, unless it lies beyond what the sketch has seen."""
    at = int(np.argmax(true)) if true.any() else len(true)
    return at if at < seen or (complete and at < len(true)) else None


def _decay(s: np.ndarray) -> str:
    """Power law or exponential, by which of both straightens the singular values better."""
    s = s[s > 1e-13 * s[0]] if len(s) and s[0] > 0 else s[:0]
    if len(s) < 8:
        return "too few singular values to say"
    if s[0] < 3 * s[-1]:
        return "flat: the singular values seen fall less than threefold"
    j, y = np.arange(1.0, len(s) + 1), np.log(s)
    power, exponential = np.polyfit(np.log(j), y, 1, full=True), np.polyfit(j, y, 1, full=True)
    if float(power[1][0]) <= float(exponential[1][0]):
        return f"like j^-{-power[0][0]:.2g} over {len(s)} singular values of a sketch"
    return f"like exp(-j / {-1 / exponential[0][0]:.3g}) over {len(s)} singular values of a sketch"


def _nonzero(operand: Operand) -> int | None:
    A = getattr(operand, "A", None)
    if not isinstance(A, np.ndarray):
        return None
    step = max(1, (1 << 22) // max(A.shape[1], 1))
    return sum(int(np.count_nonzero(A[i : i + step])) for i in range(0, len(A), step))


def _semidefinite(operand: Operand) -> bool:
    """Square, Hermitian on a block of 50 rows, and of a diagonal that is nowhere negative and bounds that block."""
    m, n = operand.shape
    if m != n or m < 2:
        return False
    few = np.unique(np.linspace(0, n - 1, min(n, 50)).astype(int))
    block = operand.entries(few, few)
    diagonal = np.real(operand.diagonal())
    scale = float(np.abs(diagonal).max())
    if diagonal.min() < 0 or scale == 0 or np.abs(np.imag(np.diagonal(block))).max() > 0:
        return False
    if np.abs(block - block.conj().T).max() > 1e-6 * scale:
        return False
    return bool(np.linalg.eigvalsh(block / scale)[0] > -1e-6 * len(few))
