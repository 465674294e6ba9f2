"""The gallery's answers are what it says they are."""

import math

import numpy as np
import pytest

from lowrank import gallery


@pytest.mark.parametrize("basis", ["haar", "cheap"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_singular_values_are_the_ones_asked_for(rng, basis, dtype):
    for spectrum in gallery.SPECTRA.values():
        s = spectrum(20)
        A = gallery.with_spectrum(50, 20, s, basis=basis, rng=rng, dtype=dtype)
        assert A.dtype == dtype
        found = np.linalg.svd(A.astype(np.complex128), compute_uv=False)
        np.testing.assert_allclose(found, np.sort(s)[::-1], rtol=1e-4, atol=100 * np.finfo(dtype).eps)


def test_one_seed_one_matrix():
    assert np.array_equal(gallery.polynomial_decay(9, 7, rng=7), gallery.polynomial_decay(9, 7, rng=7))
    assert not np.array_equal(gallery.polynomial_decay(9, 7, rng=7), gallery.polynomial_decay(9, 7, rng=8))


def test_families(rng):
    values = np.linalg.svd(gallery.devils_stairs(40, 30, steps=3, drop=10.0, rng=rng), compute_uv=False)
    np.testing.assert_allclose(values, np.repeat([1, 0.1, 0.01], 10), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.svd(gallery.flat(20, 12, rng=rng), compute_uv=False), 1.0)
    assert np.linalg.matrix_rank(gallery.exact_rank(20, 12, 5, rng=rng)) == 5
    noisy = np.linalg.svd(gallery.exact_rank(20, 12, 5, noise=1e-3, rng=rng), compute_uv=False)
    np.testing.assert_allclose(noisy, [1] * 5 + [1e-3] * 7, rtol=1e-10)
    values = np.linalg.svd(gallery.exponential_decay(20, 12, scale=2.0, rng=rng), compute_uv=False)
    np.testing.assert_allclose(values, np.exp(-np.arange(1, 13) / 2))


def test_kahan_defeats_pivoting():
    from scipy.linalg import qr

    K = gallery.kahan(60) * (1 - 1e-12) ** np.arange(60)
    assert np.array_equal(qr(K, pivoting=True)[2], np.arange(60))
    np.testing.assert_allclose(gallery.kahan(3, angle=np.pi / 6)[0], [1, -np.sqrt(0.75), -np.sqrt(0.75)])


def test_optimal_error():
    assert gallery.optimal_error([1.0, 5.0, 3.0, 4.0], 1) == pytest.approx(26**0.5)
    assert gallery.optimal_error([1.0, 5.0, 3.0, 4.0], 2, "spectral") == 3.0
    assert gallery.optimal_error([1.0], 3) == 0.0


def test_clusters(rng):
    X = gallery.clusters(500, 3, count=4, spread=1e-3, rng=rng, dtype=np.float32)
    assert X.shape == (500, 3)
    assert X.dtype == np.float32
    assert len(np.unique(X.round(1), axis=0)) <= 16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_photo_patches_are_the_patches_of_the_photo(dtype):
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    image = datasets.load_sample_image("flower.jpg")
    patches = gallery.photo_patches("flower.jpg", dtype=dtype)
    assert patches.shape == (420 * 633, 192)
    assert patches.dtype == dtype
    y, x = 17, 301
    np.testing.assert_allclose(patches[y * 633 + x], image[y : y + 8, x : x + 8].ravel() / 255, rtol=1e-6)
    assert 0 <= patches.min() < patches.max() <= 1


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"expected at most min\(m, n\)=2 singular values"):
        gallery.with_spectrum(2, 3, [1, 2, 3])
    with pytest.raises(ValueError, match="basis='dct'; pass 'haar' or 'cheap'"):
        gallery.with_spectrum(2, 3, [1], basis="dct")
    with pytest.raises(ValueError, match="angle=2; pass an angle between 0 and pi/2"):
        gallery.kahan(3, 2)
    with pytest.raises(ValueError, match="norm='nuclear'; pass 'fro' or 'spectral'"):
        gallery.optimal_error([1.0], 0, "nuclear")


def dense(A):
    return A.toarray() if hasattr(A, "toarray") else A


SHAPES = [(48, 32), (32, 48)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", gallery.FAMILIES)
def test_each_family_keeps_its_word(rng, name, shape):
    family = gallery.FAMILIES[name]
    A = family.make(*shape, rng=7)
    again = family.make(*shape, rng=7)
    assert type(A) is type(again)
    assert hasattr(A, "format") == family.sparse
    A, again = dense(A), dense(again)
    assert np.array_equal(A, again), "one seed, one matrix"
    assert A.shape == family.shape(*shape)
    assert getattr(gallery, name.removesuffix("_and_noise"))
    if name == "graded":  # LAPACK's own SVD loses the small ones; column norms are the answer
        largest = np.abs(A).max(axis=int(shape[0] < shape[1]) * -1)
        norms = np.linalg.norm(A / largest if shape[0] > shape[1] else A.T / largest, axis=0) * largest
        np.testing.assert_allclose(norms, family.singular_values(*shape), rtol=1e-12)
        return
    found = np.linalg.svd(A, compute_uv=False)
    expected, rank = family.singular_values(*shape), family.rank(*shape)
    if expected is not None:
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-11, atol=1e-13 * found[0])
        assert found[len(expected) :].max(initial=0) < 1e-13 * found[0]
    if rank is not None:
        assert np.linalg.matrix_rank(A) == rank < min(shape)
    if family.psd:
        assert np.array_equal(A, A.T)
        assert np.linalg.eigvalsh(A)[0] > -1e-13 * found[0]


@pytest.mark.parametrize("name", gallery.FAMILIES)
def test_each_family_in_single_precision(name):
    family = gallery.FAMILIES[name]
    A, B = (dense(family.make(24, 16, rng=7, dtype=dtype)) for dtype in (np.float32, np.float64))
    assert A.dtype == np.float32
    assert np.isfinite(A).all()
    if name != "graded":  # whose range depends on the precision
        np.testing.assert_allclose(A, B, atol=1e-5 * np.abs(B).max())


def test_there_are_coherent_sparse_and_semidefinite_families():
    families = gallery.FAMILIES.values()
    assert len(families) >= 15
    assert all(sum(getattr(f, kind) for f in families) >= 2 for kind in ("coherent", "sparse", "psd", "square"))
    assert all(f.answer.endswith(".") for f in families)


def test_coherent_families_have_coherent_rows():
    """Leverage of one row far above the mean, k/m, near which all rows of a Haar basis are."""
    for name, k in (("spike", 9), ("sparse_power_law", 16)):
        U = np.linalg.svd(dense(gallery.FAMILIES[name].make(200, 32, rng=7)), full_matrices=False)[0][:, :k]
        assert np.square(U).sum(axis=1).max() > 5 * k / 200


def test_determinants(rng):
    for n in (2, 5, 7):
        L = gallery.lehmer(n)
        i = np.arange(2, n + 1)
        assert np.linalg.det(L) == pytest.approx(np.prod((2 * i - 1) / i**2))
        assert np.abs(np.tril(np.linalg.inv(L), -2)).max(initial=0) < 1e-10
        c = [np.prod([float(math.factorial(j)) for j in range(1, top)]) for top in (n, 2 * n)]
        assert np.linalg.det(gallery.hilbert(n)) == pytest.approx(c[0] ** 4 / c[1], rel=1e-5)
        x, y = (np.sort(0.1 + half) for half in np.random.default_rng(7).random((2, n)))
        above = np.prod([(x[j] - x[i]) * (y[j] - y[i]) for j in range(n) for i in range(j)])
        A = gallery.cauchy(n, n, rng=7)
        np.testing.assert_allclose(A, 1 / (x[:, None] + y))
        assert np.linalg.det(A) == pytest.approx(above * np.prod(A), rel=1e-5)
    K = gallery.kahan(30, angle=1.1)
    s, c = np.sin(1.1), np.cos(1.1)
    values = np.linalg.svd(K, compute_uv=False)
    assert np.log(values).sum() == pytest.approx(np.log(s) * 30 * 29 / 2)
    assert values[-1] <= s**29 / (c * (1 + c) ** 28)


@pytest.mark.parametrize("gap", [0.01, 0.1, 1.0])
def test_displacement_bounds(rng, gap):
    k = np.arange(14)
    for A, low, high in (
        (gallery.cauchy(90, 60, gap=gap, rng=rng), gap, 1 + gap),
        (gallery.hilbert(90, 60), 0.5, 89.5),
        (gallery.hilbert(50), 0.5, 49.5),
    ):
        values = np.linalg.svd(A, compute_uv=False)
        bound = gallery.cauchy_bound(k, low, high)
        assert np.all(values[k] <= values[0] * bound + 1e-14)
        assert bound[13] < 1e-2, "a bound that says something"


def test_mixture_rows_are_within_the_noise_of_their_centres():
    exact, noisy = (gallery.gaussian_mixture_rows(80, 30, count=6, spread=s, rng=7) for s in (0.0, 0.01))
    assert len(np.unique(exact, axis=0)) == 6
    optimum = gallery.optimal_error(np.linalg.svd(noisy, compute_uv=False), 6)
    assert 0 < optimum <= np.linalg.norm(noisy - exact)
    assert np.linalg.norm(noisy - exact) == pytest.approx(0.01 * 2400**0.5, rel=0.1)


def test_kernel_matrices_keep_their_bounds():
    from lowrank.gallery.points import cluster_points

    K = gallery.cluster_kernel(150, count=5, spread=0.02, bandwidth=0.5, rng=7)
    X, centres = cluster_points(150, 5, 5, 0.02, 7)
    left = np.linalg.eigvalsh(K)[::-1][5:].sum()
    bound = np.sum(1 - np.exp(-np.square(X - centres).sum(axis=1) / 0.25))
    assert 0.1 * bound < left <= bound
    assert np.trace(K) == pytest.approx(150)
    values = np.linalg.eigvalsh(gallery.smile_kernel(200))[::-1]
    for p in range(1, 9):
        assert values[p * (p + 1) // 2 :].sum() <= gallery.poisson_bound(gallery.smile(200), p, 10.0)
    assert gallery.poisson_bound(gallery.smile(200), 0, 10.0) == 200 == pytest.approx(values.sum())


def test_smile_has_small_eyes():
    X = gallery.smile(1000)
    eyes = np.hypot(np.abs(X[:, 0]) - 4, X[:, 1] - 4) < 0.6
    assert eyes.sum() == 20
    assert np.hypot(*X.T).max() == pytest.approx(10)
    assert gallery.smile(3, dtype=np.float32).shape == (3, 2)


def test_photo_patches_of_an_image_of_the_user(rng):
    image = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    patches = gallery.photo_patches(image, size=3)
    assert patches.shape == (7 * 5, 27)
    np.testing.assert_allclose(patches[2 * 5 + 4], image[2:5, 4:7].ravel() / 255)
    assert np.linalg.matrix_rank(gallery.photo_patches(np.full((9, 9), 0.3), size=4)) == 1
    with pytest.raises(ValueError, match=r"shape \(9,\); expected \(height, width\)"):
        gallery.photo_patches(np.ones(9))
    with pytest.raises(ValueError, match="size=8; an image of"):
        gallery.photo_patches(image)


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"low=2\.0, high=1\.0; pass 0 < low"):
        gallery.graded(3, 3, low=2.0, high=1.0)
    with pytest.raises(ValueError, match="gap=0; pass a positive"):
        gallery.cauchy(3, 3, gap=0)
    with pytest.raises(ValueError, match="rank=5 exceeds m=3"):
        gallery.duplicate_columns(3, 9, rank=5)
    with pytest.raises(ValueError, match="10 parts of 4; pass from 1 to 4"):
        gallery.duplicate_columns(30, 4)
    with pytest.raises(ValueError, match=r"rank=3; pass an integer from 0 to min\(m, n\) - 1 = 2"):
        gallery.spike(3, 4, rank=3)
    with pytest.raises(ValueError, match="terms=9; pass an integer from 0"):
        gallery.snn(4, 8, terms=9)


def test_examples_run():
    import doctest
    import importlib

    for name in ("classical", "coherent", "families", "photo", "points", "spectra"):
        module = importlib.import_module(f"lowrank.gallery.{name}")
        assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
