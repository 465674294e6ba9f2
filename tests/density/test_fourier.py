"""The density as a distribution: its functions agree with one another, and its bytes with themselves."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from density.fourier import _polynomial
from density.quadrature import integrate

VARIANTS = {
    "logistic": {"order": 9, "map": "logistic"},
    "normal": {"order": 9, "map": "normal"},
    "laplace": {"order": 9, "map": "laplace"},
    "cauchy": {"order": 7, "map": "cauchy"},
    "affine": {"order": 15, "map": "affine"},
    "arcsine": {"order": 15, "map": "arcsine"},
    "bounded": {"order": 15, "support": (-7, 7)},
    "circular": {"order": 8, "support": (-7, 7), "basis": "periodic"},
    "line periodic": {"order": 5, "map": "logistic", "basis": "periodic"},
}


@pytest.fixture(params=sorted(VARIANTS), scope="module")
def p(request):
    rng = np.random.default_rng(20265)
    x = np.concatenate([rng.normal(-1, 0.7, 700), rng.normal(1.2, 0.4, 500)])
    return ds.fit(x, **VARIANTS[request.param])


def test_cdf_is_the_integral_of_the_pdf(p):
    lo, hi = p.ppf(0.002), p.ppf(0.998)  # inside the data, where the arcsine map has no poles
    edges = np.linspace(lo, hi, 40)
    for a, b in pairwise(edges):
        area, _ = integrate(lambda u, a=a, b=b: (b - a) * p.pdf(a + (b - a) * u), 4)
        assert abs(area - (p.cdf(b) - p.cdf(a))) < 1e-11


def test_cdf_rises_from_0_to_1_and_sf_is_its_complement(p):
    t = np.concatenate([[-np.inf, -1e300], np.linspace(-9, 9, 5001), [1e300, np.inf]])
    cdf = p.cdf(t)
    assert cdf[0] == 0
    assert cdf[-1] == 1
    assert np.diff(cdf).min() >= -1e-15
    assert np.abs(cdf + p.sf(t) - 1).max() < 1e-15
    assert p.sf(np.inf) == 0
    assert p.sf(-np.inf) == 1
    assert p.pdf(np.array([-np.inf, np.inf])).tolist() == [0, 0]


def test_ppf_inverts_cdf_into_the_tails(p):
    y = np.concatenate([np.linspace(0, 1, 301)[1:-1], [1e-14, 1e-9, 1 - 1e-9]])
    x = p.ppf(y)
    assert np.abs(p.cdf(x) - y).max() < 1e-10
    assert np.all(np.diff(p.ppf(np.sort(y))) >= 0)
    assert (p.ppf(0), p.ppf(1)) == p.support


def test_logpdf_is_the_log_of_pdf(p):
    t = np.linspace(-5, 5, 401)
    assert np.allclose(np.exp(p.logpdf(t)), p.pdf(t), rtol=1e-12)
    assert np.array_equal(p.pdf(t, exact=True), p.pdf(t))


def test_samples_follow_the_density(p):
    s = p.sample(40_000, rng=7)
    assert np.array_equal(s, p.sample(40_000, rng=7))
    steps = np.abs(p.cdf(np.sort(s)) - (np.arange(40_000) + 0.5) / 40_000).max()
    assert steps < 2.6 / np.sqrt(40_000)  # Kolmogorov: false alarm below 3e-6
    assert p.sample((3, 4), rng=7).shape == (3, 4)
    assert p.sample(0, rng=7).shape == (0,)


def test_moments_and_entropy_agree_with_sums(p):
    v = (np.arange(400_000) + 0.5) / 400_000
    f, x = p._p(v), p.map.inverse(v)  # midpoints in u, where no map has poles
    if p.map.kind == "cauchy":
        assert np.isnan(p.mean())
        assert np.isnan(p.var())
    else:
        assert np.isclose(f.mean(), 1, atol=1e-9)
        assert np.isclose(p.mean(), (f * x).mean(), atol=1e-4)
        assert np.isclose(p.var(), (f * (x - p.mean()) ** 2).mean(), atol=2e-3)
    s = p.sample(200_000, rng=11)
    scores = -p.logpdf(s)
    assert abs(p.entropy() - scores.mean()) < 6 * scores.std() / np.sqrt(200_000)


def test_bytes_come_back_and_do_not_depend_on_time(p):
    data = p.to_bytes()
    q = ds.from_bytes(data)
    t = np.linspace(-3, 3, 50)
    assert q == p
    assert hash(q) == hash(p)
    assert q.to_bytes() == data
    assert np.array_equal(q.pdf(t), p.pdf(t))
    assert (q.gap_nats, q.order, q.n_parameters) == (p.gap_nats, p.order, p.n_parameters)
    assert q.explain()
    assert pickle.loads(pickle.dumps(p)) == p
    width = 8 if p.basis == "cosine" else 16
    assert len(data) == 96 + width * (p.order + 1)


@pytest.fixture(scope="module")
def normal():
    return ds.fit(np.random.default_rng(20266).standard_normal(4000), order=6, map="logistic")


def test_shapes_and_dtypes_in_are_shapes_and_dtypes_out(normal):
    for method in (normal.pdf, normal.logpdf, normal.cdf, normal.sf, normal.ppf):
        for shape in ((), (3,), (2, 0), (2, 3, 4)):
            for dtype in (np.float16, np.float32, np.float64):
                out = method(np.full(shape, 0.25, dtype))
                assert np.shape(out) == shape
                assert out.dtype == dtype
        assert isinstance(method(0.25), np.float64)
        assert isinstance(method(np.float32(0.25)), np.float32)
        assert method([0, 1]).dtype == np.float64
    for number in (normal.mean(), normal.var(), normal.entropy(), normal.kl(normal)):
        assert isinstance(number, np.float64)
    t = np.linspace(-3, 3, 31, dtype=np.float32)
    assert np.allclose(normal.pdf(t), normal.pdf(t.astype(float)), rtol=1e-6)
    wide = np.asfortranarray(np.arange(12.0).reshape(3, 4) / 12)[::-1, ::2]
    assert np.array_equal(normal.pdf(wide), normal.pdf(wide.copy()))


def test_the_kernel_equals_the_short_path(normal):
    t = np.linspace(-5, 5, 20_000)
    short = np.concatenate([normal.pdf(part) for part in np.array_split(t, 7)])
    assert np.allclose(normal.pdf(t), short, rtol=1e-13, atol=1e-16)
    assert np.allclose(normal.cdf(t), [normal.cdf(v) for v in t[:5]] + list(normal.cdf(t[5:])), rtol=1e-13)


@given(st.integers(0, 30), st.integers(1, 40))
def test_polynomials_are_evaluated_as_numpy_does(K, size):
    rng = np.random.default_rng(K * 41 + size)
    a = rng.standard_normal(K + 1) + 1j * rng.standard_normal(K + 1)
    theta = rng.uniform(-7, 7, size)
    x, y = _polynomial(theta, a)
    assert np.allclose(x + 1j * y, np.polyval(a[::-1], np.exp(1j * theta)), atol=1e-11)


@pytest.mark.parametrize(
    "kwargs", [*VARIANTS.values(), {"order": 0, "support": (-7, 7)}, {"order": 0, "map": "arcsine"}]
)
def test_nan_stays_nan_and_the_rest_is_finite(kwargs):
    p = ds.fit(np.random.default_rng(20271).standard_normal(300), **kwargs)
    x = np.array([np.nan, 0.0])
    for method in (p.pdf, p.logpdf, p.cdf, p.sf):
        out = method(x)
        assert np.isnan(out[0])
        assert np.isfinite(out[1])
    assert np.isnan(p.pdf(np.full(60_000, np.nan), exact=False)).all()


def test_kl_is_a_divergence(normal):
    wide = ds.fit(2 * np.random.default_rng(20267).standard_normal(4000), order=6, map="logistic")
    assert normal.kl(normal) < 1e-14
    s = normal.sample(200_000, rng=13)
    gains = normal.logpdf(s) - wide.logpdf(s)
    assert abs(normal.kl(wide) - gains.mean()) < 6 * gains.std() / np.sqrt(200_000)
    bounded = ds.fit(np.random.default_rng(20268).random(500), order=2, support=(0, 1))
    assert normal.kl(bounded) == np.inf
    assert np.isfinite(bounded.kl(normal))
    with pytest.raises(TypeError, match="kl takes a FourierDensity"):
        normal.kl(3)


def test_frozen_and_misused(normal):
    with pytest.raises(AttributeError):
        normal.basis = "periodic"
    with pytest.raises(ValueError, match="read-only"):
        normal.coefficients[0] = 2
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]; got values from -0.1"):
        normal.ppf([-0.1, 0.5])
    with pytest.raises(TypeError, match="evaluated at real numbers"):
        normal.pdf(1j)
    assert (normal == 3) is False
    with pytest.raises(TypeError, match="step='a' is not a width"):
        normal.bits(0.0, "a")
    with pytest.raises(ValueError, match="order='a' of the distance is not known"):
        normal.wasserstein(normal, order="a")
    with pytest.raises(ValueError, match="least='a' is not a share"):
        normal.modes(least="a")
    for wrong in ("TDEN", 12, None):
        with pytest.raises(
            TypeError, match=f"from_bytes takes bytes, not {type(wrong).__name__}; read a file in mode 'rb'"
        ):
            ds.from_bytes(wrong)


def test_damaged_bytes_never_give_a_density(normal):
    data = normal.to_bytes()
    with pytest.raises(ds.NotOurDataError, match="not a stored density"):
        ds.from_bytes(b"PNG" + data)
    with pytest.raises(ds.NotOurDataError):
        ds.from_bytes(b"")
    for size in range(1, len(data)):
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(data[:size])
    with pytest.raises(ds.TruncatedDataError, match="bytes; got"):
        ds.from_bytes(data + b"x")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(bytes(flipped))
    future = bytearray(data)
    future[4] = 9
    with pytest.raises(ds.UnknownVersionError, match="version 9"):
        ds.from_bytes(bytes(future))
