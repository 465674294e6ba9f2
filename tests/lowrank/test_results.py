"""Results as linear operators: every product beside the dense one, conversions, files, pickles and what people read."""

import numpy as np
import pytest

import lowrank as lr
from lowrank import gallery


def make(kind, dtype, rng):
    A = gallery.polynomial_decay(40, 40, rng=rng, dtype=dtype)
    if kind == "nystrom":
        return lr.nystrom(A @ A.conj().T, rank=6, rng=7)
    result = {"column": lr.column_id, "row": lr.row_id, "cur": lr.cur}[kind.split(".")[0]](A[:, :25], rank=6, rng=7)
    return {"T": result.T, "H": result.H}.get(kind[-1], result) if "." in kind else result


KINDS = ["column", "row", "cur", "nystrom", "column.T", "cur.H"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("kind", KINDS)
def test_products(rng, kind, dtype):
    f = make(kind, dtype, rng)
    B = f.to_dense()
    m, n = f.shape
    assert B.shape == (m, n)
    assert B.dtype == f.dtype == dtype
    close = {"rtol": 0, "atol": 2e3 * np.finfo(dtype).eps}
    x = rng.standard_normal(n).astype(dtype)
    X, Y, y = x[:, None] * [1, 2], rng.standard_normal((3, m)), rng.standard_normal(m)
    np.testing.assert_allclose(f @ x, B @ x, **close)
    np.testing.assert_allclose(f @ X, B @ X, **close)
    np.testing.assert_allclose(y @ f, y @ B, **close)
    np.testing.assert_allclose(Y @ f, Y @ B, **close)
    np.testing.assert_allclose(f.T @ y, B.T @ y, **close)
    np.testing.assert_allclose(f.H @ y, B.conj().T @ y, **close)
    np.testing.assert_allclose(Y @ f.H.H, Y @ B, **close)
    np.testing.assert_allclose(f.T.H.to_dense(), B.conj(), **close)
    np.testing.assert_allclose(f.H.T.to_dense(), B.conj(), **close)
    assert f.T.T.shape == f.shape
    operator = f.aslinearoperator()
    np.testing.assert_allclose(operator @ X, B @ X, **close)
    np.testing.assert_allclose(operator.H @ y, B.conj().T @ y, **close)
    U, s, Vh = f.svd()
    np.testing.assert_allclose((U * s) @ Vh, B, **close)
    np.testing.assert_allclose(U.conj().T @ U, np.eye(len(s)), **close)
    assert len(s) == 6
    for wrong in (np.ones(m + n), np.ones((m + n, 2)), np.ones((2, 2, 2)), 3.0):
        with pytest.raises(ValueError, match="shapes do not fit"):
            f @ wrong


def test_each_factorisation_has_its_own_class(rng):
    classes = (lr.ColumnID, lr.RowID, lr.CUR, lr.Nystrom)
    for kind, expected in zip(KINDS, classes):
        f = make(kind, np.float64, rng)
        assert type(f) is expected
        assert isinstance(f.certificate, lr.Certificate)


@pytest.mark.parametrize("kind", KINDS)
def test_repr_fits_a_screen_and_says_what_matters(rng, kind):
    f = make(kind, np.float64, rng)
    text = repr(f)
    assert len(text.splitlines()) <= 12
    assert "relative error" in text
    assert "The factorisation has the rank that was asked for." in text
    assert "entries read" in f.explain()


def test_results_are_frozen(rng):
    f = make("column", np.float64, rng)
    with pytest.raises(AttributeError):
        f.indices = None


def test_relative_error_checks_the_shape(rng):
    f = make("column", np.float64, rng)
    with pytest.raises(ValueError, match=r"A has shape \(3, 3\), but the factorisation has \(40, 25\)"):
        f.relative_error(np.eye(3))
    with pytest.raises(ValueError, match="norm='max' is not available"):
        f.relative_error(np.ones((40, 25)), norm="max")


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("kind", KINDS)
def test_qb_and_a_cut_svd(rng, kind, dtype):
    f = make(kind, dtype, rng)
    B = f.to_dense()
    close = {"rtol": 0, "atol": 2e3 * np.finfo(dtype).eps}
    Q, R = f.qb()
    np.testing.assert_allclose(Q @ R, B, **close)
    np.testing.assert_allclose(Q.conj().T @ Q, np.eye(Q.shape[1]), **close)
    U, s, Vh = f.svd(rank=3)
    assert U.shape[1] == len(s) == len(Vh) == 3
    expected = np.linalg.svd(B, compute_uv=False)
    assert np.linalg.norm(B - (U * s) @ Vh, 2) <= expected[3] + close["atol"]
    with pytest.raises(ValueError, match=r"rank=7 exceeds min\(A.shape\)=6"):
        f.svd(rank=7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("maker", [lr.column_id, lr.row_id, lr.cur, lr.two_sided_id])
def test_eigh_of_hermitian_matrices(rng, maker, dtype):
    A = gallery.polynomial_decay(50, 50, rng=rng, dtype=dtype)
    A = (A + A.conj().T) / 2
    f = maker(A, rank=12, rng=7)
    values, vectors = f.eigh()
    B = f.to_dense()
    close = {"rtol": 0, "atol": 2e3 * np.finfo(dtype).eps}
    np.testing.assert_allclose((vectors * values) @ vectors.conj().T, (B + B.conj().T) / 2, **close)
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(len(values)), **close)
    assert (np.diff(values) <= 0).all()
    error = np.linalg.norm(A - (vectors * values) @ vectors.conj().T)
    assert error <= f.relative_error(A) * np.linalg.norm(A) * (1 + 1e-6)
    with pytest.raises(ValueError, match="the approximation is not Hermitian: its skew part is"):
        maker(gallery.polynomial_decay(50, 50, rng=rng, dtype=dtype), rank=12, rng=7).eigh()
    with pytest.raises(ValueError, match="eigenvalues need a square one"):
        maker(A[:, :30], rank=5, rng=7).eigh()


@pytest.mark.parametrize("norm, order", [("spectral", 2), ("trace", "nuc"), ("fro", "fro")])
def test_relative_error_in_every_norm(rng, norm, order):
    f = make("column", np.float64, rng)
    A = f.to_dense() + 1e-3 * rng.standard_normal(f.shape)
    expected = np.linalg.norm(A - f.to_dense(), order) / np.linalg.norm(A, order)
    assert f.relative_error(A, norm=norm) == pytest.approx(expected, rel=1e-10)
    assert f.relative_error(A * 1e300, norm=norm) <= 1 + 1e-12


@pytest.mark.parametrize("kind", ["cur", "nystrom"])
def test_what_cannot_be_updated_says_so(rng, kind):
    with pytest.raises(NotImplementedError, match="cannot be updated: its parts depend on all"):
        make(kind, np.float64, rng).update(columns=np.ones((40, 2)))
