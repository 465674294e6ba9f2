"""How good the chosen columns are: ``python -m benchmarks.quality_table`` prints F, S and projF of targets L1 to L4.

F and S are the Frobenius and the spectral norm of the error over those of the best approximation of the same rank,
which the gallery knows; projF is F with the coefficients C^+ A, so it judges the columns alone. One row a seed of the
selection, for scipy's pivoted QR of the whole matrix too where it is asked for (half a minute).
"""

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
import scipy.linalg

import lowrank as lr
from benchmarks.bench_lowrank_id import SEED, SIZES
from lowrank import gallery


def _norms(E: np.ndarray, best: float, sigma: float) -> tuple[float, float]:
    """Frobenius and spectral norm over the best; the latter by the Gram matrix, to half of the digits."""
    G = E.T @ E if E.shape[0] > E.shape[1] else E @ E.T
    top = scipy.linalg.eigvalsh(G, subset_by_index=[len(G) - 1, len(G) - 1])[0]
    return float(np.sqrt(np.trace(G))) / best, float(np.sqrt(top)) / sigma


def _projected(A: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A less its projection on the span of columns of its own."""
    Q = np.linalg.qr(A[:, columns])[0]
    return A - Q @ (Q.T @ A)


def rows(seeds: int, quick: bool, scipy_too: bool) -> Iterator[tuple[str, str, str, float, float, float]]:
    """spectrum, factorisation, seed, F, S, projF."""
    m, n, k = SIZES[quick]
    for spectrum in ("polynomial", "exponential"):
        s = gallery.SPECTRA[spectrum](n)
        A = gallery.with_spectrum(m, n, s, basis="cheap", rng=SEED)
        best, sigma = gallery.optimal_error(s, k), float(s[k])
        ways = {
            "column_id": partial(lr.column_id, A, rank=k),
            'column_id, quality="best"': partial(lr.column_id, A, rank=k, quality="best"),
            "cur": partial(lr.cur, A, rank=k),
        }
        for name, way in ways.items():
            for seed in range(SEED, SEED + seeds):
                found = way(rng=seed)
                columns = found.columns if isinstance(found, lr.CUR) else found.indices
                F, S = _norms(A - found.to_dense(), best, sigma)
                yield spectrum, name, str(seed), F, S, _norms(_projected(A, columns), best, sigma)[0]
        if scipy_too:
            J = scipy.linalg.qr(A, mode="r", pivoting=True, check_finite=False)[-1][:k]
            F, S = _norms(_projected(A, J), best, sigma)
            yield spectrum, "scipy qr(pivoting=True)", "", F, S, F


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="3000 x 600, k = 60, in place of 20000 x 2000, k = 200")
    parser.add_argument("--scipy", action="store_true", help="pivoted QR of the whole matrix beside")
    given = parser.parse_args()
    print(f"{'spectrum':12} {'factorisation':28} {'seed':6} {'F':>6} {'S':>6} {'projF':>6}")
    for spectrum, name, seed, F, S, projected in rows(given.seeds, given.quick, given.scipy):
        print(f"{spectrum:12} {name:28} {seed:6} {F:6.2f} {S:6.2f} {projected:6.2f}", flush=True)


if __name__ == "__main__":
    main()
