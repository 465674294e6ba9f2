"""Search with an expensive score: scores of a few items give approximate scores of all, and the best are scored."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import check_rank
from .certificate import Certificate
from .operands.entry_function import EntryMatrix
from .results import Record

BATCH = 1024  # items in one call of the score


class SearchStatus(enum.Enum):
    """How a search ended; the value is what the user reads."""

    EXACT = "Every item was scored, so these are the best."
    CLEAR = (
        "No item that was not scored comes near: the last of these is above all approximate scores left by more than "
        "the largest error seen."
    )
    DOUBTFUL = (
        "Items that were not scored may belong to these: their approximate scores come nearer than the errors seen. "
        "Pass a larger rescore=, or make the index with a larger rank."
    )


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The best items of one query, made by `SearchIndex.search`.

    items : (k,) best first;  scores : (k,) exact;  calls : scores that were computed for it;  error : largest
    difference between the approximate and the exact scores of the items re-scored;  margin : how far the last score is
    above the approximate scores of what was not scored (inf where nothing is left);  status.
    """

    items: np.ndarray
    scores: np.ndarray
    calls: int
    error: float
    margin: float
    status: SearchStatus

    def explain(self) -> str:
        """What was found, at what cost, and how sure it is."""
        shown = ", ".join(map(str, self.items[:8])) + (", ..." if len(self.items) > 8 else "")
        return "\n".join([
            f"{len(self.items)} best items: {shown}",
            f"status: {self.status.value}",
            f"approximation: off by {self.error:.3g} at most where it was checked; margin {self.margin:.3g}",
            f"work: {self.calls} scores",
        ])  # fmt: skip


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Items by which all others are expressed; made by `search_index`.

    anchors : (k,) items;  coefficients : Z, (k, n), with an identity at the anchors;  queries : the rows it was made
    from;  record : of their column ID: ``certificate`` is its relative error over these queries.
    """

    anchors: np.ndarray
    coefficients: np.ndarray
    queries: np.ndarray
    record: Record

    @property
    def certificate(self) -> Certificate:
        """Relative error of the approximate scores over the queries that the index was made from."""
        return self.record.certificate

    @property
    def calls(self) -> int:
        """Scores that were computed for the index."""
        return len(self.queries) * self.coefficients.shape[1]

    def approximate(self, scores) -> np.ndarray:
        """(..., n) approximate scores of all items, from the exact ones (..., k) of the anchors."""
        scores = np.asarray(scores)
        if scores.shape[-1:] != self.anchors.shape:
            raise ValueError(
                f"scores has shape {scores.shape}; expected one score for each of {len(self.anchors)} anchors"
            )
        return scores @ self.coefficients

    def search(self, score: Callable, k: int = 10, *, rescore: int | None = None, largest: bool = True) -> SearchResult:
        """The k best items for one query.

        Parameters
        ----------
        score : ``score(items)`` -> (len(items),) exact scores of this query, for an integer array of items.
        k : items wanted, at most n.
        rescore : items that are scored exactly beside the anchors, the approximately best ones; None means
            ``max(4 k, 32)``, or all that there are.
        largest : False for a distance, where the smallest are the best.

        Returns
        -------
        SearchResult
            Its scores are exact. That no better item was missed is not certain but where the status is EXACT.
        """
        n = self.coefficients.shape[1]
        k = check_rank(k, (n, n), name="k", most="the items")
        most = n - len(self.anchors)
        wanted = min(max(4 * k, 32), most) if rescore is None else check_rank(rescore, (n, n), name="rescore", most="n")
        if len(self.anchors) + wanted < k:
            raise ValueError(f"rescore={wanted} and {len(self.anchors)} anchors are fewer than k={k}; raise rescore=")
        sign = 1.0 if largest else -1.0
        known = _scores(score, self.anchors)
        guess = sign * self.approximate(known)
        left = np.ones(n, dtype=bool)
        left[self.anchors] = False
        others = np.flatnonzero(left)
        best = others[np.argsort(-guess[others], kind="stable")[:wanted]]
        found = _scores(score, best)
        error = float(np.abs(sign * found - guess[best]).max(initial=0.0))
        left[best] = False
        items = np.concatenate([self.anchors, best])
        exact = np.concatenate([known, found])
        order = np.lexsort((items, -sign * exact))[:k]
        rest = float(guess[left].max()) if left.any() else -np.inf
        margin = float(sign * exact[order[-1]] - rest) if k else np.inf
        status = SearchStatus.CLEAR if margin > error else SearchStatus.DOUBTFUL
        if not left.any():
            status = SearchStatus.EXACT
        return SearchResult(items[order], exact[order], len(items), error, margin, status)

    def explain(self) -> str:
        """How the index was made, what it cost and how well the anchors explain the queries seen."""
        k, n = self.coefficients.shape
        head = f"index of {n} items by {k} anchors, from {len(self.queries)} queries ({self.calls:,} scores)"
        return "\n".join([head, *self.record.lines()])

    __repr__ = explain


def search_index(
    score: Callable, shape, *, rank, queries=None, selection="auto", rng=None, workers=None
) -> SearchIndex:
    r"""Prepare top-k search over all items with a score that is too expensive for all of them.

    .. math:: s(q, \cdot) \approx s(q, J)\, Z, \qquad Z = R_{:,J}^+ R, \quad R = s(Q, \cdot)

    with Q some queries that are scored with every item once, and J the anchor items: the column ID of R. A new query
    is scored with the anchors alone; `SearchIndex.search` then scores the approximately best items exactly.

    Parameters
    ----------
    score : ``score(I, J)`` -> (len(I), len(J)) scores of queries I with items J, integer arrays: a cross-encoder, inner
        products, a distance. Called with all of the chosen queries and up to 1024 items at a time.
    shape : (number of queries that there are to prepare with, number of items).
    rank : anchor items; each search scores as many.
    queries : how many to prepare with, drawn uniformly, or their numbers; None means ``2 * rank``, or all.
    selection : rule for the anchors, a name in `SELECTIONS`; the paper draws them uniformly.
    rng : seed or numpy Generator (SPEC 7).
    workers : threads of the linear algebra; the score is called from one thread.

    Returns
    -------
    SearchIndex

    Raises
    ------
    ValueError
        For a rank or numbers out of range, or a score that is not finite.
    TypeError
        For a score that is not callable.

    Complexity
    ----------
    ``len(queries) * n`` scores once; `rank` and `rescore` scores and 2 n rank flops a search; rank n numbers.

    References
    ----------
    Yadav, Monath, Angell, Zaheer and McCallum (2022), Efficient nearest neighbor search for cross-encoder models using
    matrix factorization, arXiv 2210.12579 (ANNCUR; with the cross core :math:`R_{:,J}^+`, which is this Z).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> rng = np.random.default_rng(7)
    >>> Q, X = rng.standard_normal((200, 12)), rng.standard_normal((5000, 12))
    >>> index = lr.search_index(lambda I, J: np.tanh(Q[I] @ X[J].T / 8), (200, 5000), rank=40, rng=7)
    >>> q = rng.standard_normal(12)
    >>> exact = np.tanh(X @ q / 8)
    >>> found = index.search(lambda J: exact[J], k=5)
    >>> bool((found.items == np.argsort(-exact)[:5]).all()), found.calls
    (True, 72)
    """
    from .interpolative import column_id

    began = time.perf_counter()
    operand = EntryMatrix(score, shape, dtype=np.float64)
    m, n = operand.shape
    k = check_rank(rank, operand.shape, most="min(shape)")
    generator = np.random.default_rng(rng)
    rows = _queries(queries, m, k, generator)
    R = np.empty((len(rows), n))
    for j in range(0, n, BATCH):
        items = np.arange(j, min(j + BATCH, n))
        R[:, j : j + BATCH] = operand.entries(rows, items)
    f = column_id(R, rank=k, quality="best", selection=selection, rng=generator, workers=workers)
    made = f.record
    record = Record(
        made.status, made.certificate, operand.entries_read, time.perf_counter() - began, made.selection,
        made.choices, made.notes,
    )  # fmt: skip
    return SearchIndex(f.indices, f.coefficients, rows, record)


def _queries(queries: Any, m: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """The rows to prepare with, at least as many as anchors."""
    if queries is None:
        queries = min(max(2 * k, 1), m)
    if np.ndim(queries) == 0:
        count = check_rank(queries, (m, m), name="queries", most="shape[0]")
        rows = np.sort(rng.choice(m, size=count, replace=False)) if m else np.empty(0, np.int64)
    else:
        rows = np.asarray(queries)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(f"queries must be a number or one-dimensional integers, got dtype {rows.dtype}")
        if rows.size and (rows.min() < 0 or rows.max() >= m):
            raise IndexError(f"queries reaches from {rows.min()} to {rows.max()}, but there are {m}")
    if len(rows) < k:
        raise ValueError(f"{len(rows)} queries cannot determine rank={k} anchors; pass queries>={k}, or a smaller rank")
    return rows.astype(np.int64)


def _scores(score: Callable, items: np.ndarray) -> np.ndarray:
    """Exact scores of one query with these items."""
    if not callable(score):
        raise TypeError(f"score={score!r} is not callable; pass score(items) -> one number for each item")
    if not len(items):
        return np.empty(0)
    found = np.asarray(score(items), dtype=np.float64)
    if found.shape != items.shape:
        raise ValueError(f"score(items) returned shape {found.shape} for {len(items)} items; expected {items.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"the score of item {items[~np.isfinite(found)][0]} is not finite; scores must be")
    return found
