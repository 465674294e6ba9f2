"""Orders by AIC, BIC and cross-validation."""

import numpy as np
import pytest

import density as ds
from density.cells import cells
from density.validation import Folds


@pytest.mark.parametrize("criterion, words", [("aic", "lowest AIC"), ("bic", "lowest BIC"), ("cv", "best cross-valid")])
@pytest.mark.parametrize("basis", ["cosine", "periodic"])
def test_the_order_is_the_best_by_its_criterion(rng, criterion, words, basis):
    x = np.concatenate([rng.normal(-2, 0.5, 400), rng.normal(1, 1, 600)])
    p = ds.fit(x, order=criterion, basis=basis, support=(-8, 8), map="affine")
    assert p.report.criterion == criterion
    assert words in p.explain()
    path = p.report.order_path
    assert min(path, key=lambda s: s.score).order == p.order
    cost = (1 if basis == "cosine" else 2) / len(x)
    for step in path:
        assert np.isclose(step.aic, -2 * step.log_likelihood + 2 * cost * step.order)
        if criterion == "bic":
            assert np.isclose(step.score, -2 * step.log_likelihood + np.log(len(x)) * cost * step.order)
    aic = ds.fit(x, basis=basis, support=(-8, 8), map="affine")
    assert aic == ds.fit(x, order="aic", basis=basis, support=(-8, 8), map="affine")
    if criterion == "bic":
        assert p.order <= aic.order


def test_folds_are_a_function_of_the_counts_and_hold_every_sample(rng):
    x = rng.standard_normal(500)
    m = ds.fit(x, order=2, map="normal").map
    one, two = (Folds(cells(v, None, 1), m, "cosine", 8) for v in (x, x[::-1]))
    assert sum(size for *_, size in one.pairs) == 500
    assert one.score(4) == two.score(4)
    assert one.score(0) == 0  # flat in u
    assert one.score(8, 1e-3) != one.score(8)
