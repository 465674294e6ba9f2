"""The gallery's answers are what it says they are."""

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
