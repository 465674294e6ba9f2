"""Every rule of `SELECTIONS` beside its plain method, through the registry and on the same draws."""

import numpy as np
import pytest

from lowrank.selection import SELECTIONS, Candidates
from lowrank.selection.maxvol import GROWTH
from lowrank.selection.strong_rrqr import BOUND
from tests import reference as plain
from tests import reference_selections as rules

PLAIN = {
    "auto": lambda A, k, rng: rules.osinsky_columns(A, k),  # what the default takes on small problems
    "osinsky": lambda A, k, rng: rules.osinsky_columns(A, k),
    "lu": lambda A, k, rng: rules.eliminated_columns(A, k),
    "qr": lambda A, k, rng: rules.pivoted_columns(A, k),
    "norm": lambda A, k, rng: rules.largest_columns(A, k),
    "uniform": rules.uniform_columns,
    "given": lambda A, k, rng: list(range(k, 0, -1)),
    "arp": lambda A, k, rng: plain.adaptive_randomized_pivoting(rules.leading_space(A, k), rng),
    "rbrp": rules.robust_blocks,
    "deim": lambda A, k, rng: plain.deim_points(rules.leading_space(A, k)),
    "qdeim": lambda A, k, rng: rules.pivoted_columns(rules.leading_space(A, k).conj().T, k),
    "leverage": lambda A, k, rng: rules.draws(rules.leverage_scores(A, k), k, rng),
    "ridge_leverage": lambda A, k, rng: rules.draws(plain.ridge_leverage_scores(A, k), k, rng),
    "norm_sampling": lambda A, k, rng: rules.draws(rules.norms(A), k, rng),
    "column_sampling": rules.two_stages,
    "kmeans": rules.nearest_to_centres,
    "greedy_error": lambda A, k, rng: plain.greedy_columns(A, k),
    "aca": lambda A, k, rng: plain.cross_approximation(A, k)[1],
}
EXCHANGES = {"maxvol", "rect_maxvol", "strong_rrqr"}  # any choice without a better exchange is an answer


def problem(rng, k, kind):
    """Two rows more than k, so that no rule compresses them, and columns of falling size."""
    m, n = k + 2, 2 * k + 10
    A = rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if kind is complex else 0)
    return A * rng.permutation(np.geomspace(1, 0.05, n))


def choose(name, A, k, seed):
    given = np.arange(k, 0, -1) if name == "given" else None
    candidates = Candidates(A, rules.norms(A), k, np.random.default_rng(seed), exact=True, indices=given)
    return SELECTIONS[name](candidates).indices.tolist()


def test_no_rule_is_without_a_plain_method():
    assert set(PLAIN) | EXCHANGES == set(SELECTIONS)


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("name", PLAIN)
def test_a_rule_is_its_plain_method(rng, name, kind):
    for k in (1, 6, 15):
        A, seed = problem(rng, k, kind), int(rng.integers(2**32))
        found = choose(name, A, k, seed)
        assert found == PLAIN[name](A.copy(), k, np.random.default_rng(seed))
        assert len(found) == k or name == "kmeans"


@pytest.mark.parametrize("kind", [float, complex])
def test_exchanges_end_where_none_raises_the_volume(rng, kind):
    for k in (1, 6):
        A = problem(rng, k, kind)
        V = rules.leading_space(A, k)
        assert plain.best_exchange(V.conj().T, choose("maxvol", A, k, 7)) <= GROWTH * (1 + 1e-9)
        assert plain.best_exchange(A, choose("strong_rrqr", A, k, 7)) <= BOUND * (1 + 1e-9)
    J, U = choose("rect_maxvol", A, 6, 7), V[:, :4]
    assert plain.best_exchange(U.conj().T, J[:4]) <= GROWTH * (1 + 1e-9)
    assert plain.rectangular_volume(U, J[:4], 6) == J
