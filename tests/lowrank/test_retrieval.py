"""Top-k search by a few anchors: beside the exact order, counted, sure where it says so, bad input."""

import re

import numpy as np
import pytest

import lowrank as lr


def problem(rng, n=2000, d=10, squash=True):
    """Queries, items, and a score of index blocks that counts its calls; squashed inner products have full rank."""
    Q, X = rng.standard_normal((120, d)), rng.standard_normal((n, d))
    calls = []

    def score(rows, items):
        calls.append(len(rows) * len(items))
        found = Q[rows] @ X[items].T / d**0.5
        return np.tanh(found) if squash else found

    return Q, X, score, calls


@pytest.mark.parametrize("largest", [True, False])
def test_inner_products_are_searched_exactly(rng, largest):
    """A score of rank 10 is known from 10 anchors: the k best are the k best, and it is said that nothing is near."""
    _, X, score, calls = problem(rng, squash=False)
    index = lr.search_index(score, (120, 2000), rank=10, rng=7)
    assert isinstance(index, lr.SearchIndex)
    assert index.calls == sum(calls) == 20 * 2000
    assert max(calls) <= 20 * 1024
    assert index.certificate.estimate < 1e-12
    for q in rng.standard_normal((10, 10)):
        exact = X @ q / 10**0.5
        asked = []
        found = index.search(lambda J, exact=exact, asked=asked: asked.append(J) or exact[J], k=7, largest=largest)
        assert isinstance(found, lr.SearchResult)
        order = np.argsort(-exact if largest else exact)[:7]
        np.testing.assert_array_equal(found.items, order)
        np.testing.assert_array_equal(found.scores, exact[order])
        assert found.calls == sum(map(len, asked)) == 10 + 32
        assert len(np.unique(np.concatenate(asked))) == found.calls  # nothing is scored twice
        assert found.status is lr.SearchStatus.CLEAR
        assert found.error < 1e-12
        np.testing.assert_allclose(index.approximate(exact[index.anchors]), exact, atol=1e-11)


def test_a_score_of_full_rank_is_found_with_a_few_per_cent_of_the_scores(rng):
    """Recall of the ten best over 20 queries; anchors by pivoting against drawn ones, as in the paper."""
    _, X, score, _ = problem(rng)
    recall = {}
    for selection in ("auto", "uniform"):
        index = lr.search_index(score, (120, 2000), rank=30, queries=90, selection=selection, rng=7)
        hits, more = [], []
        for q in np.random.default_rng(77).standard_normal((20, 10)):
            exact = np.tanh(X @ q / 10**0.5)
            best = set(np.argsort(-exact)[:10])
            found = index.search(lambda J, exact=exact: exact[J], k=10, rescore=60)
            assert found.calls == 90
            assert (np.diff(found.scores) <= 0).all()
            hits.append(len(best & set(found.items)) / 10)
            more.append(len(best & set(index.search(lambda J, exact=exact: exact[J], k=10, rescore=300).items)) / 10)
        recall[selection] = np.mean(hits)
        assert np.mean(more) >= np.mean(hits)
    assert recall["auto"] > 0.85
    assert recall["uniform"] > 0.75


def test_what_says_clear_is_right_and_all_scored_is_exact(rng):
    _, X, score, _ = problem(rng, n=300)
    index = lr.search_index(score, (120, 300), rank=25, rng=7)
    kinds = set()
    for q in rng.standard_normal((30, 10)):
        exact = np.tanh(X @ q / 10**0.5)
        for rescore in (20, 250, 275):
            found = index.search(lambda J, exact=exact: exact[J], k=3, rescore=rescore)
            kinds.add(found.status)
            if found.status is not lr.SearchStatus.DOUBTFUL:
                np.testing.assert_array_equal(found.items, np.argsort(-exact)[:3])
            assert (found.status is lr.SearchStatus.EXACT) == (rescore == 275)
            assert found.status.value in found.explain()
    assert len(kinds) == 3


def test_the_coefficients_are_those_of_anncur(rng):
    """Yadav et al.: s(q, J) R_J^+ R with the pseudo-inverse of the anchors' columns."""
    Q, X, score, _ = problem(rng, n=200)
    index = lr.search_index(score, (120, 200), rank=15, queries=np.arange(40), rng=7)
    R = np.tanh(Q[:40] @ X.T / 10**0.5)
    expected = np.linalg.pinv(R[:, index.anchors]) @ R
    np.testing.assert_allclose(index.coefficients, expected, atol=1e-9)
    np.testing.assert_array_equal(index.queries, np.arange(40))
    low, high = index.certificate.interval
    assert low / 2 <= np.linalg.norm(R - R[:, index.anchors] @ expected) / np.linalg.norm(R) <= 2 * high
    same = lr.search_index(score, (120, 200), rank=15, queries=np.arange(40), rng=7, workers=3)
    np.testing.assert_array_equal(same.coefficients, index.coefficients)
    assert "index of 200 items by 15 anchors, from 40 queries (8,000 scores)" in repr(index)


def test_few_items_and_equal_scores():
    index = lr.search_index(lambda rows, J: np.ones((len(rows), len(J))), (5, 9), rank=3, rng=7)
    assert len(index.anchors) == 1  # all columns are the same
    found = index.search(lambda J: np.ones(len(J)), k=9)
    assert found.status is lr.SearchStatus.EXACT
    np.testing.assert_array_equal(np.sort(found.items), np.arange(9))
    assert index.search(lambda J: np.ones(len(J)), k=0).items.shape == (0,)
    nothing = lr.search_index(lambda rows, J: np.zeros((len(rows), len(J))), (5, 9), rank=3, rng=7)
    assert nothing.search(lambda J: J * 1.0, k=2, rescore=9).items.tolist() == [8, 7]


def test_bad_arguments(rng):
    _, _, score, _ = problem(rng, n=50)
    index = lr.search_index(score, (120, 50), rank=4, rng=7)
    make, find = lr.search_index, index.search
    for error, sentence, call in (
        (TypeError, "function='cosine' is not callable", lambda: make("cosine", (3, 4), rank=1)),
        (TypeError, "shape=7; expected two numbers", lambda: make(score, 7, rank=1)),
        (ValueError, "rank=60 exceeds min(shape)=50; pass rank<=50", lambda: make(score, (120, 50), rank=60)),
        (ValueError, "3 queries cannot determine rank=4 anchors; pass queries>=4", lambda: make(
            score, (120, 50), rank=4, queries=3)),
        (IndexError, "queries reaches from 0 to 120, but there are 120", lambda: make(
            score, (120, 50), rank=1, queries=[0, 120])),
        (TypeError, "queries must be a number or one-dimensional integers, got dtype float64", lambda: make(
            score, (120, 50), rank=1, queries=[0.5])),
        (ValueError, "function(I, J) returned shape (2,) for 2 rows and 50 columns", lambda: make(
            lambda rows, J: np.ones(len(rows)), (120, 50), rank=1)),
        (ValueError, "the entry at (", lambda: make(
            lambda rows, J: np.full((len(rows), len(J)), np.nan), (9, 9), rank=1)),
        (ValueError, "selection='best' is not available; pass one of", lambda: make(
            score, (120, 50), rank=1, selection="best")),
        (ValueError, "k=51 exceeds the items=50; pass k<=50", lambda: find(lambda J: J, k=51)),
        (ValueError, "rescore=0 and 4 anchors are fewer than k=9; raise rescore=", lambda: find(
            lambda J: J, k=9, rescore=0)),
        (TypeError, "score=3 is not callable; pass score(items)", lambda: find(3)),
        (ValueError, "score(items) returned shape () for 4 items; expected (4,)", lambda: find(lambda J: 1.0)),
        (ValueError, "is not finite; scores must be", lambda: find(lambda J: np.full(len(J), np.inf))),
        (ValueError, "scores has shape (3,); expected one score for each of 4 anchors", lambda: index.approximate(
            np.ones(3))),
    ):  # fmt: skip
        with pytest.raises(error, match=re.escape(sentence)):
            call()
