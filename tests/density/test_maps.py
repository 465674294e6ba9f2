"""Each map is its own inverse's inverse, and its derivative is a density."""

import numpy as np
import pytest

from density.maps import BOUNDED, HALF, LINE, Map, candidates, check_map
from density.quadrature import integrate

KINDS = (*LINE, *BOUNDED, *HALF)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_undoes_forward(kind):
    m = Map(kind, 3.0, 2.0)
    u = np.linspace(0.001, 0.999, 301)
    assert np.allclose(m.forward(m.inverse(u)), u, rtol=1e-9)
    assert np.all(np.diff(m.inverse(u)) > 0)
    tiny = np.array([1e-12, 1e-30])  # near 3 no double is close enough to the end
    assert np.allclose(Map(kind, 0.0, 2.0).forward(Map(kind, 0.0, 2.0).inverse(tiny)), tiny, rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_complement_keeps_the_small_tail(kind):
    m = Map(kind, 0.0, 1.0)
    x = m.inverse(np.linspace(0.01, 0.99, 99))
    assert np.allclose(m.forward(x) + m.complement(x), 1, atol=1e-15)
    if kind != "affine":
        far = {"normal": 20.0, "logistic": 200.0, "laplace": 200.0, "cauchy": 1e200, "arcsine": 1 - 1e-15}
        far = {**far, "exponential": 200.0, "loglogistic": 1e200, "lognormal": 1e8}[kind]
        assert 0 < m.complement(far) < 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_log_derivative_is_the_slope(kind):
    m = Map(kind, -1.0, 0.7)
    x = m.inverse(np.linspace(0.05, 0.95, 61))
    h = 1e-6
    slope = (m.forward(x + h) - m.forward(x - h)) / (2 * h)
    assert np.allclose(np.exp(m.log_derivative(x)), slope, rtol=1e-5)


@pytest.mark.parametrize("kind", ["affine", "arcsine"])
def test_bounded_maps_end_at_their_support(kind):
    m = Map(kind, 2.0, 4.0)
    assert m.support == (2.0, 6.0)
    assert m.log_derivative(np.array([1.9, 6.1])).tolist() == [-np.inf, -np.inf]
    assert np.isfinite(m.log_derivative(np.array([2.0, 6.0]))).all()
    assert m.forward(np.array([0.0, 2.0, 6.0, 9.0])).tolist() == [0, 0, 1, 1]


def test_arcsine_derivative_integrates_to_one():
    m = Map("arcsine", 0.0, 1.0)
    value, error = integrate(lambda x: np.exp(m.log_derivative(x)), 64)
    assert abs(value - 1) < 1e-6
    assert error < 1e-5


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("shape", [0.6, 1.0, 3.0])
def test_maps_of_a_half_line_and_their_mirror_images(kind, shape):
    m, w = Map(kind, 2.0, 1.5, shape), Map(kind, 2.0, -1.5, shape)
    assert m.support == (2.0, np.inf)
    assert w.support == (-np.inf, 2.0)
    u = np.linspace(0.01, 0.99, 99)
    z = m.inverse(u) - 2
    assert np.allclose(m.forward(2 + z), u, rtol=1e-12)
    assert np.allclose(m.inverse_complement(1 - u), 2 + z, rtol=1e-12)
    assert np.allclose(w.forward(2 - z), 1 - u, rtol=1e-12)
    assert np.allclose(w.inverse(1 - u), 2 - z, rtol=1e-12)
    assert np.allclose(w.log_derivative(2 - z), m.log_derivative(2 + z))
    slope = (m.forward(2 + z * 1.00001) - m.forward(2 + z * 0.99999)) / (2e-5 * z)
    assert np.allclose(np.exp(m.log_derivative(2 + z)), slope, rtol=1e-6)
    outside = np.array([1.0, -np.inf])
    assert m.forward(outside).tolist() == [0, 0]
    assert m.complement(outside).tolist() == [1, 1]
    assert m.log_derivative(outside).tolist() == [-np.inf, -np.inf]
    ends = m.log_derivative(np.array([2.0, 1e300, np.inf]))
    assert not np.isnan(ends).any()
    assert ends[2] == -np.inf


def test_names_that_do_not_work_name_those_that_do():
    with pytest.raises(ValueError, match=r"map='gauss' is not known; pass 'auto', one of \['normal'.*or an object"):
        check_map("gauss")


def test_candidates_follow_the_statement_of_the_caller():
    seen = {"quartiles": (-1.0, 0.0, 1.0), "extent": (-4.0, 4.0)}
    logistic = candidates("logistic", support=None, **seen)
    assert len({m.scale for m in logistic}) == 3
    assert {m.kind for m in candidates("auto", support=None, **seen)} == {*LINE, *BOUNDED}
    assert {m.kind for m in candidates("auto", support=(0, 1), **seen)} == {"affine", "arcsine"}
    with pytest.raises(ValueError, match="covers the whole line"):
        candidates("normal", support=(0, 1), **seen)
    assert {m.kind for m in candidates("auto", support=(-9, np.inf), **seen)} == set(HALF)
    assert all(m.scale < 0 for m in candidates("auto", support=(-np.inf, 9), **seen))
    tied = candidates("logistic", support=None, quartiles=(0.0, 0.0, 0.0), extent=(0.0, 8.0))
    assert all(m.scale > 0 for m in tied)
