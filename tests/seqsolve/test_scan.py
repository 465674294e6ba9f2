"""Affine scans beside the loop, for every structure, direction and dtype; their gradients; what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqsolve as sq
from seqsolve import _affine, _device_scan, scan
from tests.reference import affine_scan as reference
from tests.reference import scaled_residual

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
STATES = {"scalar": (3,), "diag": (2, 5), "complex": (2, 3), "block": (2, 4), "dense": (2, 3), "constant": (2, 3)}
REAL = [name for name in scan.STRUCTURES if name != "complex"]


def shape_of(structure, T, state, k=2):
    """The shape of A."""
    n = state[-1]
    blocks = (*state[:-1], n // k, k, k)
    return {
        "scalar": (T,), "block": (T, *blocks), "dense": (T, *state, n), "constant": (n, n),
    }.get(structure, (T, *state))  # fmt: skip


def problem(rng, structure, T, dtype, state=None, size=0.6, k=2):
    """A, b, h0; "complex" makes the real dtypes complex."""
    state = STATES[structure] if state is None else state
    dtype = np.result_type(dtype, np.complex64) if structure == "complex" else np.dtype(dtype)

    def draw(*shape):
        x = rng.standard_normal(shape)
        return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)

    A = draw(*shape_of(structure, T, state, k))
    if structure in ("dense", "constant", "block"):
        A /= np.sqrt(A.shape[-1])
    return (size * A).astype(dtype), draw(T, *state), draw(*state)


def close(h, expected):
    assert scaled_residual(np.abs(h - expected).max(), np.abs(expected).max(), 8, expected.dtype) < 30


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("structure", scan.STRUCTURES)
@pytest.mark.parametrize("T", [0, 1, 2, 33])
def test_scan_is_the_loop(structure, T, dtype, reverse, rng):
    A, b, h0 = problem(rng, structure, T, dtype)
    h = sq.affine_scan(A, b, h0, structure=structure, reverse=reverse)
    expected = reference(A, b, h0, structure, reverse)
    assert h.dtype == b.dtype
    assert h.shape == b.shape
    if not T:
        return
    close(h, expected)
    kind = {"complex": "diag", "dense": "block"}.get(structure, structure)
    tensors = [torch.from_numpy(x) for x in (A, b, h0)]
    if structure == "constant":
        close(_affine.constant_products(*tensors, reverse).numpy(), expected)
    elif structure != "block":  # there b gets an axis for the blocks first
        for other in (_device_scan.doubling, _device_scan.rows, _device_scan.device_scan):
            close(other(*tensors, kind, reverse).numpy(), expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_blocks_of_any_size(k, reverse, rng):
    A, b, h0 = problem(rng, "block", 40, np.float64, (3, 12), k=k)
    expected = reference(A, b, h0, "block", reverse)
    close(sq.affine_scan(A, b, h0, structure="block", reverse=reverse), expected)
    full = np.zeros((40, 3, 12, 12))
    for i in range(12 // k):
        full[..., i * k : i * k + k, i * k : i * k + k] = A[..., i, :, :]
    close(sq.affine_scan(full, b, h0, reverse=reverse), expected)


@pytest.mark.parametrize("n", [1, 3, 16, 40])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_constant_matrix_is_the_same_matrix_at_every_step(n, reverse, rng):
    A, b, h0 = problem(rng, "constant", 150, np.float64, (2, n))
    expected = reference(A, b, h0, "constant", reverse)
    close(sq.affine_scan(A, b, h0, structure="constant", reverse=reverse), expected)
    shear = np.eye(n) + np.diag(np.ones(n - 1), 1)  # no eigenvectors: what has none must not need them
    close(_affine.constant_products(*map(torch.from_numpy, (shear, b, h0)), False).numpy(),
          reference(shear, b, h0, "constant"))  # fmt: skip
    growing = 30.0 * np.eye(n)  # the power of a chunk overflows, but zero grows into zero
    nothing = np.zeros((400, n))
    assert not sq.affine_scan(growing, nothing, structure="constant").any()
    assert not _affine.constant_products(*map(torch.from_numpy, (growing, nothing, nothing[0])), False).any()
    with pytest.raises(OverflowError, match=r"overflows torch\.float64 at step 208 of 400"):
        sq.affine_scan(growing, nothing, np.ones(n), structure="constant")


def test_pairs_are_complex_numbers(rng):
    A, b, h0 = problem(rng, "complex", 30, np.complex64)
    expected = sq.affine_scan(A, b, h0)
    pairs = [np.stack((x.real, x.imag), -1) for x in (A, b, h0)]
    h = sq.affine_scan(*pairs, structure="complex")
    np.testing.assert_array_equal(h[..., 0] + 1j * h[..., 1], expected)
    halves = [torch.from_numpy(x).half() for x in pairs]
    out = sq.affine_scan(*halves, structure="complex", reverse=True)
    assert out.dtype == torch.float16
    full = sq.affine_scan(*(t.float() for t in halves), structure="complex", reverse=True)
    assert torch.equal(out, full.half())
    moved = sq.affine_scan(*(np.moveaxis(x, 0, 1) for x in pairs[:2]), pairs[2], structure="complex", dim=1)
    np.testing.assert_array_equal(np.moveaxis(moved, 1, 0), h)


@pytest.mark.parametrize("structure", scan.STRUCTURES)
def test_shapes_say_the_structure(structure, rng):
    A, b, h0 = problem(rng, structure, 11, np.float64, (2, 4))
    np.testing.assert_array_equal(sq.affine_scan(A, b, h0), sq.affine_scan(A, b, h0, structure=structure))


def test_an_open_structure_is_an_error_and_not_a_guess(rng):
    A, b = rng.standard_normal((4, 4)), rng.standard_normal((4, 4))
    with pytest.raises(ValueError, match="fits structure='diag' and structure='constant'; say which"):
        sq.affine_scan(A, b)
    assert not np.allclose(sq.affine_scan(A, b, structure="diag"), sq.affine_scan(A, b, structure="constant"))
    assert sq.affine_scan(np.full((1, 1), 2.0), np.ones((1, 1))).tolist() == [[1.0]]


def test_axes_broadcast(rng):
    b, h0 = rng.standard_normal((6, 1, 4)), rng.standard_normal(4)
    A = 0.5 * rng.standard_normal((6, 3, 4))
    wide, start = np.broadcast_to(b, (6, 3, 4)).copy(), np.broadcast_to(h0, (3, 4))
    np.testing.assert_array_equal(sq.affine_scan(A, b, h0), sq.affine_scan(A, wide, start))
    np.testing.assert_array_equal(sq.affine_scan(A[:1], wide), sq.affine_scan(np.repeat(A[:1], 6, 0), wide))
    M = 0.5 * rng.standard_normal((6, 1, 4, 4))
    np.testing.assert_array_equal(sq.affine_scan(M, wide, h0), sq.affine_scan(np.repeat(M, 3, 1), wide, start))
    blocks = 0.5 * rng.standard_normal((1, 1, 2, 2, 2))
    full = np.broadcast_to(blocks, (6, 3, 2, 2, 2))
    np.testing.assert_array_equal(sq.affine_scan(blocks, wide, h0), sq.affine_scan(full, wide, start))


@given(
    st.integers(0, 40), st.integers(0, 9), st.sampled_from(scan.STRUCTURES), st.booleans(), st.integers(1, 2**32 - 1)
)
def test_scan_can_be_cut_anywhere(T, cut, structure, reverse, seed):
    A, b, h0 = problem(np.random.default_rng(seed), structure, T, np.float64)
    whole = sq.affine_scan(A, b, h0, structure=structure, reverse=reverse)
    cut = min(cut, T)
    first, second = (slice(cut, None), slice(None, cut)) if reverse else (slice(None, cut), slice(cut, None))
    parts = [A if structure == "constant" else A[part] for part in (first, second)]
    one = sq.affine_scan(parts[0], b[first], h0, structure=structure, reverse=reverse)
    carry = h0 if not len(one) else one[0 if reverse else -1]
    two = sq.affine_scan(parts[1], b[second], carry, structure=structure, reverse=reverse)
    np.testing.assert_array_equal(np.concatenate([two, one] if reverse else [one, two]), whole)


@given(st.integers(1, 30), st.booleans(), st.integers(1, 2**32 - 1))
def test_diag_is_dense_with_a_diagonal(T, reverse, seed):
    A, b, h0 = problem(np.random.default_rng(seed), "diag", T, np.float64, (4,))
    full = np.einsum("ti,ij->tij", A, np.eye(4))
    np.testing.assert_allclose(
        sq.affine_scan(A, b, h0, reverse=reverse),
        sq.affine_scan(full, b, h0, structure="dense", reverse=reverse),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [1, 3, 200])
def test_chunks_that_forget_agree_with_the_loop_and_with_any_number_of_threads(width, reverse, rng, monkeypatch):
    T = 4096
    A, b = rng.uniform(-0.9, 0.9, (T, width)), rng.standard_normal((T, width))
    expected = reference(A, b, np.zeros(width), reverse=reverse)
    monkeypatch.setattr(_affine, "_CHUNKED", 1)
    answers = [sq.affine_scan(A, b, reverse=reverse, workers=w) for w in (1, 2, 3)]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    assert np.abs(answers[0] - expected).max() < 1e-14 * np.abs(expected).max()
    A[:] = 1.0  # nothing is forgotten: no chunks
    found, expected = sq.affine_scan(A, b, reverse=reverse), reference(A, b, np.zeros(width), reverse=reverse)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if width > 1 else 1e-11)  # one number: another order


def test_a_chunk_that_stops_forgetting_is_corrected_to_its_end(rng, monkeypatch):
    monkeypatch.setattr(_affine, "_CHUNKED", 1)
    T = 1024
    A, b = np.full((T, 2), 0.1), rng.standard_normal((T, 2))
    A[T // 2 :] = 1.0
    np.testing.assert_allclose(sq.affine_scan(A, b), reference(A, b, np.zeros(2)), rtol=0, atol=1e-11)


def test_gradients_through_broadcasting_and_a_missing_start(rng):
    A = torch.from_numpy(rng.uniform(-1, 1, (6, 1, 3))).requires_grad_()
    b = torch.from_numpy(rng.standard_normal((6, 4, 3))).requires_grad_()
    assert torch.autograd.gradcheck(sq.affine_scan, (A, b))
    empty = sq.affine_scan(A[:0], b[:0])
    empty.sum().backward()


def test_array_kinds_layouts_and_axes(rng):
    A, b, h0 = problem(rng, "diag", 7, np.float64)
    expected = sq.affine_scan(A, b, h0)
    for f in (np.asfortranarray, lambda x: x[::-1][::-1], lambda x: x.copy()):
        np.testing.assert_array_equal(sq.affine_scan(f(A), f(b), f(h0)), expected)
    A.flags.writeable = b.flags.writeable = False
    np.testing.assert_array_equal(sq.affine_scan(A, b, h0), expected)
    moved = sq.affine_scan(np.moveaxis(A, 0, 1), np.moveaxis(b, 0, 1), h0, dim=1)
    np.testing.assert_array_equal(np.moveaxis(moved, 1, 0), expected)
    tensor = sq.affine_scan(torch.tensor(A), torch.tensor(b), torch.tensor(h0), dim=-3)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert sq.affine_scan(torch.full((4,), 0.5), torch.ones(4)).tolist() == [1, 1.5, 1.75, 1.875]
    assert sq.affine_scan([0.5, 0.5], np.ones(2), structure="scalar").tolist() == [1, 1.5]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 2, 4, 8, 9, 33])
def test_a_register_of_steps_is_the_loop(width, dtype, reverse, rng):
    """Of 64 numbers at a time, with a rest; NaN and infinity at their step, and products that overflow or vanish."""
    T = 500 // width + 3
    A, b, h0 = problem(rng, "diag", T, dtype, state=(width,), size=0.9)
    close(sq.affine_scan(A, b, h0, reverse=reverse), reference(A, b, h0, reverse=reverse))
    huge = np.sqrt(np.finfo(dtype).max)
    A[T // 2 : T // 2 + 8], b[T // 2 - 1 : T // 2 + 9] = huge, 0.0
    A[T // 2 - 1] = A[T // 2 + 8] = 0.0  # the state is 0 where the products of A are inf
    h = sq.affine_scan(A, b, h0, reverse=reverse)
    assert np.isfinite(h).all()
    close(h, reference(A, b, h0, reverse=reverse))
    for bad in (np.nan, np.inf, -np.inf):
        for t in (0, 7, T // 3, T - 1):
            spoilt = b.copy()
            spoilt[t, width - 1] = bad
            with np.errstate(invalid="ignore"):
                expected = reference(A, spoilt, h0, reverse=reverse)
            found = sq.affine_scan(A, spoilt, h0, reverse=reverse)
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
            np.testing.assert_allclose(found, expected, rtol=0, atol=30 * np.finfo(dtype).eps * np.abs(h).max())


def test_results_go_into_given_memory(rng):
    for structure in scan.STRUCTURES:
        A, b, h0 = problem(rng, structure, 9, np.float64)
        out = np.full_like(b, np.nan)
        assert sq.affine_scan(A, b, h0, structure=structure, out=out) is out
        np.testing.assert_array_equal(out, sq.affine_scan(A, b, h0, structure=structure))
    for shape, dim in (((9,), 0), ((3, 9), 1)):  # a series of numbers; another axis of time, strided memory
        A, b = rng.uniform(-1, 1, shape), torch.from_numpy(rng.standard_normal(shape))
        wide = torch.zeros(*shape, 2, dtype=torch.float64)
        assert torch.equal(
            sq.affine_scan(A, b, structure="diag", dim=dim, out=wide[..., 0]),
            sq.affine_scan(A, b, structure="diag", dim=dim),
        )
        assert not wide[..., 1].any()
    A, b, out = torch.rand(9, 3).half(), torch.rand(9, 3).half(), torch.empty(9, 3).half()
    assert torch.equal(sq.affine_scan(A, b, out=out), sq.affine_scan(A, b))
    pairs = torch.rand(2, 9, 3, 2)
    out = torch.empty(9, 3, 2)
    assert torch.equal(
        sq.affine_scan(*pairs, structure="complex", out=out), sq.affine_scan(*pairs, structure="complex")
    )
    assert sq.affine_scan(np.ones((0, 3)), np.ones((0, 3)), out=np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    "out, error, message",
    [
        (np.empty((4, 3)), ValueError, r"out has shape \(4, 3\), torch.float64 on cpu; the result has shape \(4, 2\)"),
        (
            np.empty((4, 2), np.float32),
            ValueError,
            r"torch.float32 on cpu; the result has shape \(4, 2\), torch.float64",
        ),
        (np.empty((4, 2), ">f8"), ValueError, "is no memory torch can use"),
        (np.broadcast_to(0.0, (4, 2)), ValueError, "read-only"),
        ([0.0], TypeError, "out is list"),
        (torch.empty(4, 2, dtype=torch.float64, requires_grad=True), ValueError, "followed by autograd"),
    ],
)
def test_memory_that_does_not_fit(out, error, message):
    with pytest.raises(error, match=message):
        sq.affine_scan(np.ones((4, 2)), np.ones((4, 2)), structure="diag", out=out)


def test_memory_is_not_shared_and_takes_no_gradient():
    A, b = np.ones((4, 2)), np.ones((5, 2))
    for out in (A, b[1:]):
        with pytest.raises(ValueError, match="shares memory"):
            sq.affine_scan(A, b[:4], structure="diag", out=out)
    with pytest.raises(ValueError, match="out= has no gradient"):
        sq.affine_scan(torch.ones(4, 2).requires_grad_(), torch.ones(4, 2), out=torch.empty(4, 2))


def test_half_precision_is_computed_in_float32(rng):
    A, b = (torch.from_numpy(rng.uniform(0, 1, (50, 3))).to(torch.bfloat16) for _ in range(2))
    h = sq.affine_scan(A, b)
    assert h.dtype == torch.bfloat16
    assert torch.equal(h, sq.affine_scan(A.float(), b.float()).to(torch.bfloat16))
    assert sq.affine_scan(A.double().numpy().astype(np.float16), b.half().numpy()).dtype == np.float16


@pytest.mark.parametrize("structure", scan.STRUCTURES)
def test_nan_appears_at_its_step_and_not_before(structure, rng):
    for where in (0, 1) if structure != "constant" else (1,):
        arrays = problem(rng, structure, 12, np.float64)
        arrays[where][7] = np.nan
        h = sq.affine_scan(*arrays, structure=structure)
        assert np.isfinite(h[:7]).all()
        assert np.isnan(h[7:]).all()


def test_huge_and_tiny_scales(rng):
    for scale in (1e-300, 1e300):
        A, b, h0 = problem(rng, "diag", 20, np.float64, size=0.1)
        h = sq.affine_scan(A, scale * b, scale * h0)
        np.testing.assert_allclose(h, scale * reference(A, b, h0), rtol=1e-10)


def test_overflow_of_finite_numbers_is_an_error():
    A, b = np.full((2000, 1), 2.0, np.float32), np.ones((2000, 1), np.float32)
    with pytest.raises(OverflowError, match=r"overflows torch\.float32 at step 127 of 2000"):
        sq.affine_scan(A, b)
    assert np.isfinite(sq.affine_scan(A.astype(np.float64)[:500], b[:500])).all()


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((np.ones((3, 2)), np.ones((4, 2))), {}, ValueError, r"A has shape \(3, 2\) and b \(4, 2\); structure='diag'"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"structure": "dense"}, ValueError, r"needs A of shape \(T, ..., n, n\)"),
        ((np.ones(4), np.ones(4)), {"structure": "dense"}, ValueError, r"needs \(T, ..., n\)"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"structure": "block"}, ValueError, "with k that divides n = 2"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"structure": "constant"}, ValueError, r"needs A of shape \(n, n\), here"),
        ((np.ones((4, 2)), np.ones((4, 3))), {"structure": "complex"}, ValueError, r"but b has shape \(4, 3\); pass"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"structure": "complex", "dim": 1}, ValueError, "axis of the pairs"),
        ((np.ones((4, 2, 1, 1, 1)), np.ones((4, 2))), {}, ValueError, "no structure has these shapes"),
        ((np.ones((4, 1, 3, 3)), np.ones((4, 4))), {}, ValueError, "with k that divides n = 4"),
        ((np.ones((4, 4, 2)), np.ones((4, 4))), {}, ValueError, r"needs A of shape \(T, ..., n, n\), here \(4, 4, 4\)"),
        (
            (np.ones((4, 2)), np.ones((4, 2))),
            {"structure": "blocky"},
            ValueError,
            "unknown; choose one of 'auto', 'scalar'",
        ),
        ((np.ones((4, 2)), np.ones((4, 2)), np.ones(3)), {}, ValueError, r"h0 has shape \(3,\)"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"dim": 2}, ValueError, "dim=2 is not an axis of b"),
        ((np.ones((4, 2)), np.ones((4, 2))), {"workers": 0}, ValueError, "workers=0 asks for no thread"),
        ((np.ones((4, 2)), 1.0), {}, ValueError, "b is a single number"),
        (("A", np.ones((4, 2))), {}, TypeError, "A is str"),
        ((np.ones((4, 2), object), np.ones((4, 2))), {}, TypeError, "A is a ndarray of object"),
        ((torch.ones(4, 2, dtype=torch.int8), np.ones((4, 2), int)), {}, TypeError, None),
    ],
)
def test_what_it_refuses(arguments, options, error, message):
    if message is None:  # whole numbers are numbers
        assert sq.affine_scan(*arguments, **options).dtype == torch.float64
        return
    with pytest.raises(error, match=message):
        sq.affine_scan(*arguments, **options)
