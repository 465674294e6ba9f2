"""pinv: five methods, numpy and torch, verified by Penrose's equations."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from lowrank.pseudoinverse import METHODS, InverseStatus, pinv
from tests.conftest import ROOT

torch = pytest.importorskip("torch")

EXACT = ("svd", "qr", "newton_schulz", "chebyshev")
ITERATIVE = ("newton_schulz", "chebyshev")
SHAPES = [(1, 1), (1, 6), (6, 1), (12, 7), (7, 12), (9, 9)]

every = pytest.mark.parametrize("method", EXACT)
KINDS = pytest.mark.parametrize("kind", [float, complex])


@pytest.fixture(autouse=True)
def one_thread():
    from lowrank._threads import blas_threads

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with blas_threads(1):
        yield
    torch.set_num_threads(before)


def gaussian(rng, *shape, kind=float):
    return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind is complex else 0)


def with_singular_values(rng, m, n, s, kind=float):
    U, V = (np.linalg.qr(gaussian(rng, size, len(s), kind=kind))[0] for size in (m, n))
    return U * np.asarray(s) @ V.conj().T


def penrose(A, P):
    """The four equations as they stand in Penrose (1955)."""
    norm = np.linalg.norm
    AP, PA = A @ P, P @ A
    return [
        norm(AP @ A - A) / norm(A),
        norm(PA @ P - P) / norm(P),
        norm(AP - AP.conj().T) / norm(AP),
        norm(PA - PA.conj().T) / norm(PA),
    ]


# --- what comes out ---


@every
@KINDS
@pytest.mark.parametrize("shape", SHAPES)
def test_pseudo_inverse(rng, method, kind, shape):
    A = with_singular_values(rng, *shape, np.linspace(1, 3, min(shape)), kind)
    P = pinv(A, method=method)
    assert np.allclose(P.matrix, np.linalg.pinv(A), atol=1e-12)
    assert P.status is InverseStatus.VERIFIED
    assert P.rank == min(shape)
    assert P.residuals.shape == (4,)
    assert P.residuals.max() < 1e-13
    assert np.allclose(P.residuals, penrose(A, P.matrix), atol=1e-14)


@every
@KINDS
@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
def test_rank_deficient(rng, method, kind, shape):
    A = with_singular_values(rng, *shape, [5.0, 3.0, 1.0, 0.5], kind)
    P = pinv(A, method=method)
    assert P.rank == 4
    assert P.residuals.max() < 1e-11
    assert np.allclose(P.matrix, np.linalg.pinv(A, rcond=1e-12), atol=1e-10)


@every
def test_duplicate_and_zero_columns(rng, method):
    A = gaussian(rng, 10, 4)[:, [0, 1, 1, 2, 3, 3]]
    A = np.hstack([A, np.zeros((10, 2))])
    P = pinv(A, method=method)
    assert P.rank == 4
    assert P.residuals.max() < 1e-10
    assert np.allclose(P.matrix[1], P.matrix[2], atol=1e-10)
    assert np.allclose(P.matrix[6:], 0, atol=1e-12)


@pytest.mark.parametrize("method", ["svd", "qr"])
def test_rcond_decides_what_counts_as_zero(rng, method):
    A = with_singular_values(rng, 20, 12, np.r_[np.ones(8), np.full(4, 1e-7)])
    assert pinv(A, method=method).rank == 12
    cut = pinv(A, method=method, rcond=1e-4)
    assert cut.rank == 8
    assert np.linalg.norm(cut.matrix, 2) < 10


@pytest.mark.parametrize("method", ITERATIVE)
def test_iterations_follow_the_condition_number(rng, method):
    steps = []
    for condition in (1.0, 1e2, 1e4):
        P = pinv(with_singular_values(rng, 30, 20, np.geomspace(1, 1 / condition, 20)), method=method)
        assert P.status is InverseStatus.VERIFIED
        assert P.residuals.max() < 1e-15 * condition**2 + 1e-13
        steps.append(P.iterations)
    log = np.log2(1e2) * (2 if method == "newton_schulz" else 2 / np.log2(3))
    assert np.allclose(np.diff(steps), log, atol=3)


@pytest.mark.parametrize("method", ITERATIVE)
def test_tiny_singular_values_count_as_zero(rng, method):
    A = with_singular_values(rng, 20, 12, np.r_[np.ones(8), np.full(4, 1e-13)])
    P = pinv(A, method=method)
    assert P.rank == 8
    assert P.residuals.max() < 1e-11


@pytest.mark.parametrize("method", ITERATIVE)
@pytest.mark.parametrize("smallest", [1e-7, 1e-9])
def test_what_products_cannot_invert_is_refused(rng, method, smallest):
    A = with_singular_values(rng, 20, 12, np.geomspace(1, smallest, 12))
    with pytest.raises(
        np.linalg.LinAlgError, match="did not reach the pseudo-inverse: the condition number is too large"
    ):
        pinv(A, method=method)
    P = pinv(A, method=method, throw=False)
    assert P.status is InverseStatus.NOT_CONVERGED
    assert "Use method='svd' with rcond=" in repr(P)


@pytest.mark.parametrize("method", ITERATIVE)
def test_too_few_iterations_are_said(rng, method):
    A = with_singular_values(rng, 20, 12, np.geomspace(1, 1e-3, 12))
    with pytest.raises(
        np.linalg.LinAlgError, match=r"max_iterations is too small.*\(6 steps, largest Penrose residual"
    ):
        pinv(A, method=method, max_iterations=6)
    assert pinv(A, method=method, max_iterations=6, throw=False).status is InverseStatus.NOT_CONVERGED
    assert pinv(A, method=method, max_iterations=200).status is InverseStatus.VERIFIED


def test_hilbert_says_that_it_is_ill_conditioned():
    H = 1 / (np.arange(12)[:, None] + np.arange(12) + 1.0)
    P = pinv(H, rcond=1e-16)
    assert P.status is InverseStatus.ILL_CONDITIONED
    assert "raise rcond" in P.explain()
    cut = pinv(H, rcond=1e-6)
    assert cut.status is InverseStatus.TRUNCATED
    assert 1e-8 < cut.residuals[0] < 1e-6 * 12**0.5
    assert cut.residuals[1:].max() < 1e-10


# --- Tikhonov ---


@KINDS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ridge", [1e-6, 0.3, 50.0])
def test_tikhonov(rng, kind, shape, ridge):
    A = gaussian(rng, *shape, kind=kind)
    P = pinv(A, method="tikhonov", ridge=ridge)
    wanted = np.linalg.solve(A.conj().T @ A + ridge * np.eye(shape[1]), A.conj().T)
    assert np.allclose(P.matrix, wanted)
    assert P.status is InverseStatus.REGULARISED
    assert np.allclose(P.residuals, penrose(A, P.matrix), atol=1e-13)
    s2 = np.linalg.svd(A, compute_uv=False) ** 2
    assert P.rank == pytest.approx(np.sum(s2 / (s2 + ridge)), abs=0.051)


def test_tikhonov_by_default_is_close_to_the_pseudo_inverse(rng):
    A = with_singular_values(rng, 20, 12, np.linspace(1, 2, 9))
    P = pinv(A, method="tikhonov")
    assert P.residuals.max() < 1e-4
    assert P.residuals[0] < 1e-8
    assert np.allclose(P.matrix, np.linalg.pinv(A), atol=1e-4)


# --- scale, dtype, order, batches ---


@every
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_any_scale(rng, method, scale):
    A = with_singular_values(rng, 8, 5, [3.0, 2.0, 1.0])
    P = pinv(A * scale, method=method)
    assert P.rank == 3
    assert P.residuals.max() < 1e-12
    assert np.allclose(P.matrix * scale, np.linalg.pinv(A), atol=1e-10)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_tikhonov_at_any_scale(rng, scale):
    A = gaussian(rng, 8, 5)
    one, two = pinv(A, method="tikhonov", ridge=0.1), pinv(A * scale, method="tikhonov", ridge=0.1 * scale**2)
    assert np.allclose(two.matrix * scale, one.matrix)


@every
def test_graded_columns(rng, method):
    A = gaussian(rng, 12, 6) * np.array([1e150, 1e150, 1e149, 1e-150, 1e-150, 0])
    P = pinv(A, method=method)
    assert P.rank == 3
    assert np.isfinite(P.matrix).all()
    assert P.residuals.max() < 1e-10


@every
def test_a_pseudo_inverse_that_overflows_is_refused(method):
    with pytest.raises(ValueError, match="leaves the range of its dtype, because A is too small; scale A up first"):
        pinv(np.full((2, 2), 5e-324), method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtype_is_kept(rng, method, dtype):
    kind = complex if np.dtype(dtype).kind == "c" else float
    A = with_singular_values(rng, 9, 6, np.linspace(1, 5, 6), kind).astype(dtype)
    P = pinv(A, method=method)
    assert P.dtype == P.matrix.dtype == dtype
    assert np.allclose(
        P.matrix, np.linalg.pinv(A), atol=200 * np.sqrt(np.finfo(dtype).eps) ** (2 if method != "tikhonov" else 1)
    )
    assert pinv(torch.as_tensor(A), method=method).matrix.dtype == torch.as_tensor(A).dtype


@pytest.mark.parametrize("method", METHODS)
@KINDS
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_batches(rng, method, kind, make):
    A = gaussian(rng, 2, 3, 8, 5, kind=kind)
    A[1, 1] *= 1e100
    P = pinv(make(A), method=method)
    assert P.shape == (2, 3, 5, 8)
    assert P.residuals.shape == (2, 3, 4)
    for i in range(2):
        for j in range(3):
            one = pinv(A[i, j], method=method)
            size = np.abs(one.matrix).max()
            assert np.allclose(np.asarray(P.matrix[i, j]) / size, one.matrix / size, atol=1e-9)


@pytest.mark.parametrize("method", EXACT)
def test_a_batch_of_different_ranks_and_conditions(rng, method):
    A = np.stack([
        with_singular_values(rng, 8, 6, [2.0, 1.0]),
        with_singular_values(rng, 8, 6, np.geomspace(1, 1e-3, 6)),
        np.zeros((8, 6)),
    ])  # fmt: skip
    P = pinv(A, method=method)
    assert np.allclose(P.matrix, np.linalg.pinv(A, rcond=1e-10), atol=1e-7)
    assert P.residuals.max() < 1e-8
    assert P.status is InverseStatus.VERIFIED


@pytest.mark.parametrize("method", METHODS)
def test_memory_order_and_read_only(rng, method):
    A = gaussian(rng, 12, 7)
    wanted = pinv(A, method=method).matrix
    before = A.copy()
    A.flags.writeable = False
    assert np.allclose(pinv(np.asfortranarray(A), method=method).matrix, wanted, atol=1e-12)
    assert np.allclose(pinv(np.repeat(A, 2, axis=1)[:, ::2], method=method).matrix, wanted, atol=1e-12)
    assert np.array_equal(A, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 2), (0, 3, 2), (5, 3)])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_empty_and_zero(method, shape, make):
    if make is torch.as_tensor and method == "qr" and shape == (5, 3):
        pytest.skip("full rank only: refused in a test of its own")
    P = pinv(make(np.zeros(shape)), method=method)
    assert P.shape == (*shape[:-2], shape[-1], shape[-2])
    assert not np.asarray(P.matrix).any()
    assert P.status is InverseStatus.ZERO
    assert P.rank == 0


@pytest.mark.parametrize("method", METHODS)
def test_integers_are_converted_and_said(method):
    P = pinv([[2, 0], [0, 4], [0, 0]], method=method)
    assert np.allclose(P.matrix, [[0.5, 0, 0], [0, 0.25, 0]], atol=1e-7)
    assert P.notes == ("A converted from int64 to float64",)


# --- torch ---


@every
@KINDS
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_gradient(rng, method, kind, shape):
    A = torch.as_tensor(with_singular_values(rng, *shape, np.linspace(1, 3, 3 if 3 in shape else 4), kind))
    A.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda A: pinv(A, method=method).matrix, (A,))


@every
def test_second_derivative(rng, method):
    A = torch.as_tensor(with_singular_values(rng, 4, 3, [1.0, 2.0, 3.0])).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda A: pinv(A, method=method).matrix, (A,))


def test_gradient_of_a_batch_and_of_tikhonov(rng):
    A = torch.as_tensor(gaussian(rng, 2, 4, 3)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda A: pinv(A, method="newton_schulz").matrix, (A,))
    assert torch.autograd.gradcheck(lambda A: pinv(A, method="tikhonov", ridge=0.2).matrix, (A,))


def test_gradient_at_constant_rank_matches_torch(rng):
    """Along matrices of rank 2 the derivative is that of torch's own pinv of the two factors."""
    L, R = (torch.as_tensor(gaussian(rng, *shape)).requires_grad_(True) for shape in ((6, 2), (2, 5)))
    weight = torch.as_tensor(gaussian(rng, 5, 6))
    ours = torch.autograd.grad((pinv(L @ R, method="newton_schulz").matrix * weight).sum(), (L, R))
    factors = torch.linalg.pinv(R) @ torch.linalg.pinv(L)  # exact for full-rank factors
    wanted = torch.autograd.grad((factors * weight).sum(), (L, R))
    for one, other in zip(ours, wanted):
        assert torch.allclose(one, other, atol=1e-8)


def test_no_graph_unless_asked_for(rng):
    A = torch.as_tensor(gaussian(rng, 5, 3))
    assert not pinv(A).matrix.requires_grad
    assert pinv(A.requires_grad_(True)).matrix.requires_grad
    with torch.no_grad():
        assert not pinv(A).matrix.requires_grad


def test_torch_qr_needs_full_rank(rng):
    for A in (with_singular_values(rng, 6, 4, [2.0, 1.0]), np.zeros((5, 3))):
        with pytest.raises(np.linalg.LinAlgError, match="needs full rank with torch, which has no pivoted QR"):
            pinv(torch.as_tensor(A), method="qr")


def test_torch_stays_out_when_it_is_not_used():
    code = (
        "import sys, numpy as np\n"
        "from lowrank.pseudoinverse import pinv\n"
        "[pinv(np.eye(3), method=m) for m in ('svd', 'qr', 'newton_schulz', 'chebyshev', 'tikhonov')]\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- the result ---


def test_it_multiplies_like_its_matrix(rng):
    A = gaussian(rng, 6, 4)
    P = pinv(A)
    v = gaussian(rng, 6)
    assert np.array_equal(P @ v, P.matrix @ v)
    assert np.array_equal(A @ P, A @ P.matrix)
    assert np.array_equal(P.T, P.matrix.T)
    assert np.array_equal(P.H, P.matrix.T)
    assert np.array_equal(np.asarray(P), P.to_dense())
    assert np.allclose(P.aslinearoperator() @ v, P @ v)
    again = pickle.loads(pickle.dumps(P))
    assert np.array_equal(again.matrix, P.matrix)
    assert again.status is P.status
    B = torch.as_tensor(A)
    Q = pinv(B.requires_grad_(True))
    assert torch.allclose(B @ Q @ B, B)
    assert np.asarray(Q).shape == (4, 6)


def test_explain(rng):
    text = pinv(gaussian(rng, 6, 4), method="newton_schulz").explain()
    assert text.startswith(
        "pseudo-inverse (4, 6), float64, by newton_schulz, rank 4\nstatus: All four Penrose residuals"
    )
    assert "A P A = A " in text
    assert "work: " in text.splitlines()[-1]
    assert " steps, " in text.splitlines()[-1]


# --- what is refused ---


@pytest.mark.parametrize(
    "A, options, error, message",
    [
        (np.ones(3), {}, ValueError, r"A has shape \(3,\); pinv needs a matrix or a batch of them"),
        (np.float64(3), {}, TypeError, "A is a numpy.float64; pinv reads numpy arrays and torch tensors"),
        (np.ones((2, 2), np.float16), {}, TypeError, "A has dtype float16; pinv reads float32"),
        (torch.ones(2, 2, dtype=torch.bfloat16), {}, TypeError, "A has dtype torch.bfloat16; pinv reads float32"),
        (torch.ones(2, 2, dtype=torch.int64), {}, TypeError, "A has dtype torch.int64; pinv reads float32"),
        (np.array([["a"]]), {}, TypeError, "A has dtype <U1; pinv reads"),
        (np.ones((2, 2)), {"method": "lu"}, ValueError, "method='lu' is not available; pass one of 'svd', 'qr'"),
        (np.ones((2, 2)), {"rcond": 1.0}, ValueError, "rcond=1.0 must be at least 0 and below 1"),
        (
            np.ones((2, 2)),
            {"rcond": 0.1, "method": "chebyshev"},
            ValueError,
            "rcond= goes with 'svd' and 'qr', not with",
        ),
        (np.ones((2, 2)), {"ridge": 0.1}, ValueError, "ridge= goes with 'tikhonov', not with method='svd'"),
        (np.ones((2, 2)), {"ridge": 0.0, "method": "tikhonov"}, ValueError, "ridge=0.0 must be positive and finite"),
        (
            np.ones((2, 2)),
            {"max_iterations": 3},
            ValueError,
            "max_iterations= goes with 'newton_schulz' and 'chebyshev'",
        ),
        (
            np.ones((2, 2)),
            {"max_iterations": 0, "method": "chebyshev"},
            ValueError,
            "max_iterations=0 must be at least 1",
        ),
        (
            np.ones((2, 2)),
            {"max_iterations": 2.5, "method": "chebyshev"},
            TypeError,
            "max_iterations=2.5 is not an integer",
        ),
    ],
)
def test_bad_input(A, options, error, message):
    with pytest.raises(error, match=message):
        pinv(A, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, -np.inf)])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_the_first_entry_that_is_not_finite_is_named(method, bad, make):
    A = np.ones((2, 3, 4), dtype=type(bad))
    A[1, 2, 0] = A[1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"A\[1, 2, 0\] is .*(nan|inf).*; pinv needs finite entries"):
        pinv(make(A), method=method)


def test_public_names(rng):
    import lowrank as lr

    P = lr.pinv(rng.standard_normal((7, 4)))
    assert isinstance(P, lr.PseudoInverse)
    assert isinstance(P.status, lr.InverseStatus)
