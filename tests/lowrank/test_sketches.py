"""Every sketch: beside its dense matrix, on every operand, its law, its distortion of coherent inputs, its growth."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lowrank as lr
from lowrank import gallery
from lowrank.operands import as_operand
from lowrank.sketches import GivenSketch, as_embedding, check_sketch
from lowrank.tolerance import Growing

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
NAMES = sorted(lr.SKETCHES)


class Bare:
    """An object with a shape and @, and nothing else."""

    def __init__(self, S):
        self.S, self.shape = S, S.shape

    def __matmul__(self, X):
        return self.S @ X


GIVEN = {
    "array": lambda S: S,
    "fortran": np.asfortranarray,
    "list": lambda S: S.tolist(),
    "csr": scipy.sparse.csr_array,
    "coo": scipy.sparse.coo_matrix,
    "operator": aslinearoperator,
    "bare": Bare,
}


def embedding(kind, d, m, rng):
    """A sketch by name, or a given one of each kind."""
    if kind in lr.SKETCHES:
        return lr.SKETCHES[kind](d, m, rng)
    return GivenSketch(GIVEN[kind](rng.standard_normal((d, m)) / np.sqrt(d)), m)


def numbers(rng, shape, dtype):
    A = rng.standard_normal(shape)
    return (A + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else A).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [*NAMES, *GIVEN])
def test_a_sketch_equals_its_dense_matrix_on_every_operand(rng, kind, dtype):
    """C and F order, CSR, CSC, LinearOperator: Y, W and the norms, for any number of threads."""
    m, n = 1100, 37
    A = numbers(rng, (m, n), dtype) * (rng.random((m, n)) < 0.4)
    S, omega = embedding(kind, 23, m, rng), rng.standard_normal((3, m))
    dense = S.to_dense()
    assert dense.shape == S.shape == (S.height, m)
    tolerance = {"rtol": 0, "atol": 2000 * np.finfo(dtype).eps}
    strided = np.repeat(A, 2, axis=1)[:, ::2]
    for name, other in {
        "C": A, "F": np.asfortranarray(A), "strided": strided, "csr": scipy.sparse.csr_array(A),
        "csc": scipy.sparse.csc_array(A), "products": aslinearoperator(A),
    }.items():  # fmt: skip
        first = as_operand(other).sketch(S, omega, workers=1)
        assert first.Y.dtype == first.W.dtype == A.dtype, name
        np.testing.assert_allclose(first.Y, dense @ A, **tolerance, err_msg=name)
        np.testing.assert_allclose(first.W, omega @ A, **tolerance, err_msg=name)
        if name != "products":
            np.testing.assert_allclose(first.squared_norms, np.linalg.norm(A, axis=0) ** 2, rtol=1e-5)
            again = as_operand(other).sketch(S, omega, workers=3)
            np.testing.assert_array_equal(again.Y, first.Y, err_msg=name)
            np.testing.assert_array_equal(again.squared_norms, first.squared_norms, err_msg=name)


@pytest.mark.parametrize("kind", [*NAMES, "array", "operator"])
def test_memory_order_and_workers_change_no_bit(rng, kind):
    A = rng.standard_normal((2100, 1300))
    S = embedding(kind, 70, 2100, rng)
    expected = as_operand(A).sketch(S, workers=1)
    for other in (A, np.asfortranarray(A)):
        for workers in (1, 2, 3):
            found = as_operand(other).sketch(S, workers=workers)
            np.testing.assert_array_equal(found.Y, expected.Y)
            np.testing.assert_array_equal(found.squared_norms, expected.squared_norms)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("sketch_of", ["id", "cur", "rows"])
def test_a_factorisation_is_the_same_for_any_workers_and_order(rng, kind, sketch_of):
    A = gallery.polynomial_decay(500, 90, rng=rng)
    make = {"id": lr.column_id, "cur": lr.cur, "rows": lr.row_id}[sketch_of]
    results = [
        make(B, rank=8, sketch=kind, rng=7, workers=w).to_dense() for B in (A, np.asfortranarray(A)) for w in (1, 2, 3)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("spread", ["one entry", "alternating", "random"])
def test_norms_are_kept_in_expectation(rng, kind, spread):
    """E |S x|^2 = |x|^2: over 400 draws the mean is off by more than 5 standard errors about twice in 10^6 runs."""
    x = {"one entry": np.eye(60)[17], "alternating": (-1.0) ** np.arange(60), "random": rng.standard_normal(60)}[spread]
    x = x / np.linalg.norm(x)
    values = np.array([np.linalg.norm(lr.SKETCHES[kind](16, 60, rng) @ x) ** 2 for _ in range(400)])
    assert abs(values.mean() - 1) <= 5 * values.std() / 20 + 1e-12


@pytest.mark.parametrize("kind", NAMES)
def test_coherent_subspaces_are_embedded(rng, kind):
    """Singular values of S U stay in [1/2, 3/2] for r = 10, d = 200 on four subspaces that stand in few rows.

    For Gaussian S the extremes are 1 +- sqrt(r/d) = [0.78, 1.22] with a spread of 1/sqrt(d) = 0.07, so that leaving
    [0.5, 1.5] is a 4-sigma event (6e-5 a trial); of 100 trials a kind, more than one leaves it in 1 run of 10^4.
    """
    m, r, d = 1000, 10, 200
    left = 0
    for _ in range(25):
        rotate = np.linalg.qr(rng.standard_normal((r, r)))[0]
        identity = np.zeros((m, r))
        identity[rng.permutation(m)[:r], np.arange(r)] = 1
        top = np.eye(m, r) @ rotate
        mixed = np.linalg.qr(np.vstack([np.eye(r), 1e-3 * rng.standard_normal((m - r, r))]))[0]
        cosines = np.linalg.qr(np.cos(np.pi * np.outer(2 * np.arange(m) + 1, np.arange(r)) / (2 * m)))[0]
        S = lr.SKETCHES[kind](d, m, rng)
        for U in (identity, top, mixed, cosines):
            s = np.linalg.svd(S @ U, compute_uv=False)
            left += not (s[-1] > 0.5 and s[0] < 1.5)
    assert left <= 1


@pytest.mark.parametrize("kind", [*NAMES, "array"])
def test_errors_are_near_the_optimum_on_coherent_matrices(rng, kind):
    """A = an identity block above a decaying tail of noise: every rank-k choice must see rows that stand alone."""
    A = np.vstack([np.diag(2.0 ** -np.arange(40)), 1e-3 * rng.standard_normal((760, 40)) / 30])
    best = np.linalg.norm(np.linalg.svd(A, compute_uv=False)[8:])
    sketch = kind if kind in NAMES else rng.standard_normal((40, 800))
    for make in (lr.column_id, lr.two_sided_id, lr.cur):
        f = make(A, rank=8, sketch=sketch, rng=7)
        assert np.linalg.norm(A - f.to_dense()) < 4 * best
        assert f.certificate.interval[0] / 2 < f.relative_error(A) < 2 * f.certificate.interval[1]


def test_gaussian_entries_are_normal(rng):
    """Mean, variance and kurtosis of 10^5 entries within 5 standard errors, which fails once in 10^6 runs."""
    x = lr.GaussianSketch.draw(100, 1000, rng).to_dense().ravel() * 10
    n = x.size
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs((x**2).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / n)


def test_all_rows_of_the_trigonometric_sketch_are_an_isometry(rng):
    for m in (1, 2, 17, 97):  # 97 is prime: the transform is longer
        S = lr.TrigonometricSketch.draw(10**6, m, rng).to_dense()
        np.testing.assert_allclose(S.T @ S, np.eye(m), atol=1e-13)


@pytest.mark.parametrize("kind", NAMES)
def test_blocks_are_rows(rng, kind):
    S = lr.SKETCHES[kind](150, 1300, rng)
    dense = S.to_dense()
    for start, stop in ((0, 1), (60, 130), (149, 150), (20, 20)):
        np.testing.assert_array_equal(S.block(start, stop), dense[start:stop])
    x = rng.standard_normal(1300)
    np.testing.assert_allclose(S @ x, dense @ x, atol=1e-11)
    with pytest.raises(ValueError, match=r"the sketch is for 1300 rows, but A has shape \(3, 4\)"):
        S @ np.ones((3, 4))


@pytest.mark.parametrize("kind", NAMES)
def test_growing_keeps_old_rows_and_norms(rng, kind):
    """[a S; b T] with squared weights the shares of the rows: the old rows stand first, norms hold in expectation."""
    A = rng.standard_normal((900, 300)) @ np.diag(0.9 ** np.arange(300))
    growing = Growing(as_operand(A), rng, 1, kind)
    old = growing.start.sketch.Y
    growing.grow(100)
    new = growing.start.sketch.Y
    weight = np.sqrt(len(old) / len(new))
    np.testing.assert_allclose(new[: len(old)], weight * old, rtol=1e-12)
    assert len(new) >= 316
    # 316 rows: |S A|^2 is off by 5 standard deviations once in 10^6 runs, and sqrt(2 / 316) bounds one of them
    assert abs(np.linalg.norm(new) ** 2 / np.linalg.norm(A) ** 2 - 1) < 5 * np.sqrt(2 / 316)
    growing.grow(300)
    assert growing.start.exact
    np.testing.assert_array_equal(growing.start.sketch.Y, A)


def test_a_trigonometric_sketch_that_grew_is_one_that_was_drawn_at_once(rng):
    S = lr.TrigonometricSketch.draw(20, 100, rng)
    T = S.more(30, rng)
    both = np.vstack([np.sqrt(0.4) * S.to_dense(), np.sqrt(0.6) * T.to_dense()])
    at_once = type(S)(S.signs, S.order, 0, 50)
    np.testing.assert_allclose(both, at_once.to_dense(), atol=1e-14)
    assert T.more(60, rng).height == 60, "past its last row it starts afresh"


@pytest.mark.parametrize("kind", NAMES)
def test_a_tolerance_is_met_with_every_sketch(rng, kind):
    A = gallery.with_spectrum(900, 250, gallery.exponential_spectrum(250, 25), rng=rng)
    for make in (lr.column_id, lr.row_id, lr.cur):
        f = make(A, tol=1e-2, sketch=kind, rng=7)
        assert f.status in (lr.Status.TOLERANCE_MET, lr.Status.TOLERANCE_EXACT)
        assert f.relative_error(A) <= 1e-2


def test_a_given_sketch_serves_a_tolerance_until_its_rows_end(rng):
    A = gallery.with_spectrum(900, 250, gallery.exponential_spectrum(250, 10), rng=rng)
    f = lr.column_id(A, tol=0.1, sketch=rng.standard_normal((90, 900)), rng=7)
    assert f.relative_error(A) <= 0.1
    with pytest.raises(ValueError, match=r"given has 90 rows and cannot grow.*rank= in place of tol="):
        lr.column_id(A, tol=1e-8, sketch=rng.standard_normal((90, 900)), rng=7)


@pytest.mark.parametrize("kind", GIVEN)
def test_a_given_sketch_decides(rng, kind):
    """The coefficients are (S A_J)^+ S A with the user's own S, though A is small enough to be its own sketch."""
    A, S = gallery.exponential_decay(50, 20, scale=2, rng=rng), rng.standard_normal((12, 50))
    f = lr.column_id(A, rank=4, sketch=GIVEN[kind](S), rng=7, selection="qr")
    np.testing.assert_allclose(f.coefficients, np.linalg.lstsq((S @ A)[:, f.indices], S @ A, rcond=None)[0], atol=1e-9)
    assert "a given sketch of 12 rows" in f.explain()
    g = lr.row_id(A.T, rank=4, sketch=GIVEN[kind](S), rng=7, selection="qr")
    np.testing.assert_allclose(g.coefficients, f.coefficients.T, atol=1e-13)
    J = lr.select_columns(A, 4, method="qr", sketch=GIVEN[kind](S))
    np.testing.assert_array_equal(J, f.indices)
    np.testing.assert_array_equal(lr.select_rows(A.T, 4, method="qr", sketch=GIVEN[kind](S)), J)


@pytest.mark.parametrize("kind", ["array", "csr", "operator"])
def test_a_complex_sketch_goes_with_a_complex_matrix(rng, kind):
    A = numbers(rng, (300, 30), np.complex128)
    raw = numbers(rng, (14, 300), np.complex128)
    S = GivenSketch(GIVEN[kind](raw), 300)
    for other in (A, scipy.sparse.csr_array(A), aslinearoperator(A)):
        np.testing.assert_allclose(as_operand(other).sketch(S).Y, raw @ A, atol=1e-12)
    with pytest.raises(TypeError, match=r"sketch is complex128, but A is float64; pass a real sketch"):
        lr.column_id(A.real, rank=3, sketch=GIVEN[kind](raw))


def test_a_sketch_drawn_before_can_be_given(rng):
    A = gallery.polynomial_decay(400, 60, rng=rng)
    S = lr.SparseStack.draw(60, 400, rng)
    f = lr.column_id(A, rank=5, sketch=S, rng=7)
    assert "a sparse sketch of 60 rows" in f.explain()
    assert lr.column_id(A, tol=0.05, sketch=S, rng=7).status is lr.Status.TOLERANCE_EXACT
    with pytest.raises(ValueError, match=r"sketch has shape \(60, 400\), but the matrix that it is applied to has 60"):
        lr.row_id(A, rank=5, sketch=S)


@pytest.mark.parametrize(
    "sketch, error, message",
    [
        ("haar", ValueError, r"sketch='haar' is not available; pass one of 'sparse', 'gaussian', 'trigonometric'"),
        (np.ones((9, 49)), ValueError, r"sketch has shape \(9, 49\), but the matrix .* has 50 rows; expected \(d, 50"),
        (np.ones((3, 50)), ValueError, "sketch has 3 rows for 4 columns; pass at least as many rows"),
        (np.full((9, 50), np.nan), ValueError, "sketch has entries that are NaN or inf"),
        (scipy.sparse.csr_array(np.full((9, 50), np.inf)), ValueError, "sketch has entries that are NaN or inf"),
        (np.full((9, 50), 1e308), ValueError, "the sketch of A has NaN or inf, though A itself is finite"),
        (np.ones((9, 50), dtype=object), TypeError, "sketch has dtype object; expected numbers"),
        (np.ones(50), TypeError, r"sketch= is a ndarray of shape \(50,\); pass the name of a sketch"),
        (7, TypeError, "sketch= is a int of shape None; pass the name of a sketch"),
        (None, TypeError, "sketch= is a NoneType of shape None"),
        (LinearOperator((9, 50), matvec=lambda x: np.full(9, np.nan)), ValueError, "the sketch of A has NaN or inf"),
    ],
)  # fmt: skip
def test_what_cannot_serve_as_a_sketch(rng, sketch, error, message):
    A = rng.standard_normal((50, 20))
    for call in (
        lambda: lr.column_id(A, rank=4, sketch=sketch),
        lambda: lr.cur(A, rank=4, sketch=sketch),
        lambda: lr.two_sided_id(A, rank=4, sketch=sketch),
        lambda: lr.select_columns(A, 4, sketch=sketch),
        lambda: lr.row_id(A.T, rank=4, sketch=sketch),
        lambda: lr.select_rows(A.T, 4, sketch=sketch),
    ):
        with pytest.raises(error, match=message):
            call()


def test_an_object_that_returns_another_shape(rng):
    class Liar(Bare):
        def __matmul__(self, X):
            return (self.S @ X)[:-1]

    with pytest.raises(ValueError, match=r"sketch @ X returned shape \(8, 20\) for X of shape \(50, 20\); exp"):
        lr.column_id(rng.standard_normal((50, 20)), rank=4, sketch=Liar(np.ones((9, 50))))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_every_scale(rng, kind, scale):
    A = gallery.polynomial_decay(120, 30, rng=rng)
    f = lr.column_id(A * scale, rank=5, sketch=kind, rng=7)
    g = lr.column_id(A, rank=5, sketch=kind, rng=7)
    np.testing.assert_array_equal(f.indices, g.indices)
    np.testing.assert_allclose(f.coefficients, g.coefficients, atol=1e-9)


def test_names_are_drawn_and_objects_are_kept(rng):
    S = check_sketch(np.ones((9, 50)), 50, 4, np.dtype("f8"))
    assert as_embedding(S, 30, 50, rng) is S
    assert [as_embedding(name, 30, 50, rng).name for name in lr.SKETCHES] == list(lr.SKETCHES)
    for name in NAMES:
        S = lr.SKETCHES[name](4, 0, rng)
        assert (S @ np.empty((0, 3))).shape == (S.height, 3)
