"""The likelihood of intervals: its derivatives, its certificate, and what it saves on rounded data."""

import numpy as np
import pytest
from scipy import stats

import density as ds
from density.cells import cells
from density.censored import CensoredCircle, interval_means
from density.image import circle_of
from density.likelihood import Circle, certified_maximum, maximise, optimality_gap


@pytest.fixture(params=["cosine", "periodic"])
def circle(request, rng):
    nodes = 129 if request.param == "cosine" else 128
    edges = np.linspace(0, 1, 18)
    masses, points = rng.random(17) * 0.05, rng.random(nodes) * (rng.random(nodes) < 0.1) * 0.02
    spread = points + interval_means(edges[:-1], edges[1:], nodes, request.param).T @ masses
    return CensoredCircle(spread, request.param, points, edges[:-1], edges[1:], masses)


def _coefficients(rng, circle, count):
    a = rng.standard_normal(count) + (0 if circle.even else 1j * rng.standard_normal(count))
    a[0] += 3
    return a / np.linalg.norm(a)


def test_means_over_intervals_are_exact_for_lines_and_close_for_waves(rng):
    ends = np.sort(rng.random((50, 2)), axis=1)
    S = interval_means(ends[:, 0], ends[:, 1], 257, "cosine")
    u = np.linspace(0, 1, 257)
    assert np.allclose(S.sum(axis=1), 1)
    assert np.allclose(S @ (3 * u + 1), 3 * ends.mean(axis=1) + 1)
    wave = np.diff(np.sin(7 * np.pi * ends), axis=1)[:, 0] / (7 * np.pi) / np.diff(ends, axis=1)[:, 0]
    assert np.abs(S @ np.cos(7 * np.pi * u) - wave).max() < (7 * np.pi / 256) ** 2 / 12
    around = interval_means([0.99], [1.0], 256, "periodic")
    assert around[:, [0]].sum() > 0  # the last node's right neighbour is the first


def test_the_newton_system_is_the_derivative_of_the_likelihood(circle, rng):
    a = _coefficients(rng, circle, 6)
    gradient, system = circle.newton_system(a, circle.values(a))

    def moved(step):
        b = a + (step if circle.even else step[:6] + 1j * step[6:])
        return circle.log_likelihood(b)

    size, h = len(gradient), 1e-4
    eye = np.eye(size) * h
    slope = np.array([(moved(e) - moved(-e)) / (2 * h) for e in eye])
    assert np.allclose(gradient, slope, atol=1e-6)
    curve = np.array([[moved(e + f) - moved(e - f) - moved(f - e) + moved(-e - f) for f in eye] for e in eye]) / (
        4 * h * h
    )
    real = a if circle.even else np.concatenate([a.real, a.imag])
    pinned = -curve + 4 * np.outer(real, real)
    if not circle.even:
        phase = np.concatenate([-a.imag, a.real])
        pinned += 4 * np.outer(phase, phase)
    assert np.abs(system - pinned).max() < 1e-4


def test_the_certificate_bounds_what_any_model_gains(circle, rng):
    best = certified_maximum(circle, 5)
    assert best.gap_nats < 1e-9
    poor = _coefficients(rng, circle, 6)
    gap = best.log_likelihood - circle.log_likelihood(poor)
    assert 0 < gap <= optimality_gap(circle, poor)
    again = maximise(circle, poor)
    assert abs(again.log_likelihood - best.log_likelihood) < optimality_gap(circle, again.a) + 1e-12


def test_narrow_intervals_are_points(rng):
    x = np.round(rng.standard_normal(3000), 4)
    data = cells(np.repeat(x, 2), None, 1)
    m = ds.fit(x, order=2, map="logistic").map
    assert type(circle_of(data, m, 8, "cosine")) is Circle
    coarse = cells(np.round(x, 1), None, 1)
    assert type(circle_of(coarse, m, 8, "cosine")) is CensoredCircle


@pytest.mark.parametrize("sigma", [10.0, 3.0, 1.0, 0.5])
def test_rounded_normal_data_cost_what_the_rounded_law_does(rng, sigma):
    x = np.round(sigma * rng.standard_normal(30_000))
    p = ds.fit(x)
    v = np.unique(x)
    law = stats.norm(0, sigma)
    truth = law.cdf(v + 0.5) - law.cdf(v - 0.5)
    excess = truth @ (p.bits(v, 1) + np.log2(truth))
    assert excess < 2e-3
    assert p.order <= max(2 * len(v), 8)
    assert p.gap_nats < 1e-6
    if sigma >= 3:
        t = np.linspace(-3 * sigma, 3 * sigma, 2001)
        assert np.trapezoid(law.pdf(t) * (law.logpdf(t) - p.logpdf(t)), t) < 3e-3


def test_float16_data_are_rounded_to_their_own_spacing(rng):
    x = (20 + 5 * rng.standard_normal(20_000)).astype(np.float16)
    data = cells(x, None, 1)
    assert data.grid is None
    assert set(np.unique(data.widths)) >= {2.0**-7, 2.0**-6}
    p = ds.fit(x)
    t = np.linspace(8, 32, 801)
    truth = stats.norm(20, 5)
    assert np.trapezoid(truth.pdf(t) * (truth.logpdf(t) - p.logpdf(t)), t) < 3e-3


def test_ties_without_a_step_are_spread_half_way_to_their_neighbours(rng):
    values = np.cumsum(rng.random(40) + 0.1)
    x = rng.choice(values, 4000, p=stats.norm(12, 4).pdf(values) / stats.norm(12, 4).pdf(values).sum())
    p = ds.fit(x)
    assert p.report.grid is None
    assert not p.report.atoms
    assert p.order < 40
    assert p.report.candidates
    assert p.pdf(np.unique(x)).max() < 1
