"""Columns by column-pivoted QR of the sketch."""

from scipy.linalg import get_lapack_funcs

from .base import Candidates, Choice, Selection, numerical_rank


def choose(candidates: Candidates) -> Choice:
    Y = candidates.compressed(candidates.k + 8)
    (geqp3,) = get_lapack_funcs(("geqp3",), (Y,))
    factored, order, _tau, _work, _info = geqp3(Y, lwork=64 * (Y.shape[1] + 2))
    diagonal = factored.diagonal()[: candidates.k]
    return Choice((order - 1)[: numerical_rank(diagonal, max(Y.shape))], "qr")


QR = Selection(
    "qr",
    choose,
    "||A - P A||_2 <= sqrt(1 + k (n - k)) 2^k sigma_(k+1) in the worst case (Kahan's matrices come near), "
    "close to optimal otherwise.",
    "Voronin and Martinsson (2017), Efficient algorithms for CUR and interpolative matrix decompositions, "
    "doi 10.1007/s10444-016-9494-8, section 4.",
)
