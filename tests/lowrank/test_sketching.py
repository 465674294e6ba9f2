"""The sparse stack: its law, its kernel beside the dense product, and one answer for every way of running it."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import lowrank as lr
from lowrank.operands import as_operand
from lowrank.passes import draw_table, with_probes
from lowrank.sketching import ZETA, SparseStack
from tests.reference import scaled_residual

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def matrix(rng, m, n, dtype):
    A = rng.standard_normal((m, n))
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal((m, n))
    return A.astype(dtype)


def test_each_column_has_one_entry_of_a_half_in_each_block(rng):
    S = SparseStack.draw(24, 50, rng).to_dense()
    assert S.shape == (24, 50)
    blocks = np.abs(S).reshape(ZETA, 6, 50)
    assert (blocks.sum(axis=1) == 0.5).all()
    assert ((blocks == 0.5).sum(axis=1) == 1).all()


def test_height_is_rounded_up_to_whole_blocks(rng):
    assert [SparseStack.draw(h, 5, rng).height for h in (0, 1, 4, 5, 8)] == [4, 4, 4, 8, 8]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 130), (1025, 7), (2500, 65), (700, 1)])
def test_kernel_equals_the_dense_product(rng, dtype, shape):
    A = matrix(rng, *shape, dtype)
    S = SparseStack.draw(40, shape[0], rng)
    omega = rng.standard_normal((3, shape[0]))
    sketch = as_operand(A).sketch(S, omega, workers=2)
    assert sketch.Y.dtype == sketch.W.dtype == A.dtype
    wide = A.astype(np.complex128 if np.iscomplexobj(A) else np.float64)
    error = np.linalg.norm(sketch.Y - S.to_dense() @ wide)
    assert scaled_residual(error, np.linalg.norm(wide), shape[0], dtype) < 30
    error = np.linalg.norm(sketch.W - omega @ wide)
    assert scaled_residual(error, np.linalg.norm(omega) * np.linalg.norm(wide), shape[0], dtype) < 30
    np.testing.assert_allclose(sketch.squared_norms, np.linalg.norm(wide, axis=0) ** 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_strides_and_workers_change_no_bit(rng, dtype):
    A = matrix(rng, 2100, 150, dtype)
    S = SparseStack.draw(60, 2100, rng)
    big = np.zeros((4200, 300), dtype=dtype)
    big[::2, ::2] = A
    frozen = A.copy()
    frozen.setflags(write=False)
    expected = as_operand(A).sketch(S, workers=1)
    kinds = {"F": np.asfortranarray(A), "strided": big[::2, ::2], "reversed": A[::-1][::-1], "read-only": frozen}
    for name, other in kinds.items():
        for workers in (1, 2, 3):
            found = as_operand(other).sketch(S, workers=workers)
            assert np.array_equal(found.Y, expected.Y), (name, workers)
            assert np.array_equal(found.squared_norms, expected.squared_norms), (name, workers)


def test_sketch_of_the_transpose_is_a_sketch_from_the_right(rng):
    A = matrix(rng, 90, 200, np.complex128)
    S = SparseStack.draw(16, 200, rng)
    found = as_operand(A).T.sketch(S).Y.T
    np.testing.assert_allclose(found, A @ S.to_dense().T, atol=1e-12)


def test_norms_are_kept_in_expectation(rng):
    """E |S x|^2 = |x|^2: over 400 draws the mean of a unit vector's norm is off by more than 5 sigma once in 10^6."""
    x = rng.standard_normal((64, 1))
    x /= np.linalg.norm(x)
    values = np.array([np.linalg.norm(SparseStack.draw(16, 64, rng) @ x) ** 2 for _ in range(400)])
    assert abs(values.mean() - 1) < 5 * values.std() / 20


@given(m=st.integers(0, 40), n=st.integers(0, 9), height=st.integers(1, 30), seed=st.integers(2, 2**32))
def test_any_shape(m, n, height, seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n))
    S = SparseStack.draw(height, m, rng)
    np.testing.assert_allclose(S @ A, S.to_dense() @ A, atol=1e-13)


def test_a_sketch_for_another_number_of_rows_is_refused(rng):
    with pytest.raises(ValueError, match=r"the sketch is for 7 rows, but A has shape \(8, 3\)"):
        as_operand(np.ones((8, 3))).sketch(SparseStack.draw(4, 7, rng))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_second_sketch_rides_along_and_becomes_probes(rng, dtype):
    """Rows of the first keep their bits; the probes are ``g T A`` in either memory order, and T keeps norms."""
    A, S = matrix(rng, 300, 210, dtype), SparseStack.draw(40, 300, rng)
    both = S.beside(64, rng)
    g, T = rng.standard_normal((5, 64)), both.to_dense()[40:]
    assert (np.count_nonzero(T, axis=0) == 1).all()
    assert set(T[T != 0]) == {-1.0, 1.0}
    for B in (A, np.asfortranarray(A)):
        found = with_probes(as_operand(B).sketch(both, workers=2), g)
        np.testing.assert_array_equal(found.Y, as_operand(A).sketch(S).Y)
        np.testing.assert_allclose(found.W, g @ T @ A, atol=300 * np.finfo(dtype).eps * 20)
        np.testing.assert_array_equal(found.W, with_probes(as_operand(A).sketch(both), g).W)


def test_probes_from_a_table_are_those_of_the_array_that_they_stand_for(rng):
    A = sp.random_array((500, 40), density=0.05, rng=rng, format="csr")
    S = SparseStack.draw(12, 500, rng)
    probes = draw_table(3, 500, rng)
    one, other = (as_operand(A).sketch(S, p) for p in (probes, probes.to_dense()))
    np.testing.assert_array_equal(one.W, other.W)
    np.testing.assert_allclose(one.W, probes.to_dense() @ A.toarray(), atol=1e-12)


def test_the_certificate_of_a_long_matrix_is_near_its_error(rng):
    """A flat residual of rank 200 and 10 probes from 320 hashed rows: 15 % off is more than 5 sigma."""
    A = rng.standard_normal((3000, 250))
    f = lr.column_id(A, rank=40, rng=rng)
    assert f.relative_error(A) == pytest.approx(f.certificate.estimate, rel=0.15)
    assert f.certificate.probes == 10
