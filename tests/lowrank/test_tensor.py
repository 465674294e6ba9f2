"""torch tensors: tensors in and tensors out on their device, the answers of numpy, and nothing copied in silence."""

import pickle

import numpy as np
import pytest
import torch

import lowrank as lr
from lowrank._tensors import device_of
from lowrank.operands import Tensor, as_operand
from lowrank.operands import tensor as module
from lowrank.testing import OperandConformance

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]
MAKERS = [lr.column_id, lr.row_id, lr.two_sided_id, lr.cur]


def low_rank(rng, m=500, n=90, r=12, dtype=torch.float64):
    A = rng.standard_normal((m, r)) @ rng.standard_normal((r, n)) + 1e-3 * rng.standard_normal((m, n))
    if dtype.is_complex:
        A = A * (1 - 0.5j) + 0.1j * rng.standard_normal((m, r)) @ rng.standard_normal((r, n))
    return torch.from_numpy(A).to(dtype)


@pytest.fixture
def as_on_a_device(monkeypatch):
    """Tensors in main memory take the way of tensors on an accelerator."""
    monkeypatch.setattr(module, "IN_PLACE", ())
    monkeypatch.setattr(module, "ENTRIES", 1 << 12)


@pytest.fixture(params=["host", "device"])
def way(request):
    if request.param == "device":
        request.getfixturevalue("as_on_a_device")
    return request.param


class TestTensorConformance(OperandConformance):
    def make(self, rng):
        A = low_rank(rng)
        return A, A.numpy()


class TestDeviceTensorConformance(OperandConformance):
    tolerance = 1e-11

    @pytest.fixture(autouse=True)
    def _device(self, as_on_a_device):
        pass

    def make(self, rng):
        A = low_rank(rng, dtype=torch.complex128)
        return A.mT.conj().mT, A.conj().resolve_conj().numpy()


@pytest.mark.gpu
class TestCUDAConformance(OperandConformance):
    tolerance = 1e-11

    def make(self, rng):
        A = low_rank(rng)
        return A.cuda(), A.numpy()


def fields(f):
    return [name for name in ("indices", "rows", "columns", "C", "R", "coefficients", "left", "block", "right")
            if hasattr(f, name)]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_in_tensors_out_with_the_answer_of_numpy(rng, way, make, dtype):
    A = low_rank(rng, dtype=dtype)
    f, g = make(A, rank=12, rng=7), make(A.numpy(), rank=12, rng=7)
    assert type(f) is type(g)
    atol = 1e-3 if dtype in (torch.float32, torch.complex64) else 1e-10
    for name in fields(f):
        part, expected = getattr(f, name), getattr(g, name)
        assert isinstance(part, torch.Tensor), name
        if way == "host" or part.dtype is torch.int64:
            np.testing.assert_array_equal(part.numpy(), expected)
    assert f.dtype is dtype
    assert f.entries_read == g.entries_read
    np.testing.assert_allclose(f.to_dense().numpy(), g.to_dense(), atol=atol * np.abs(g.to_dense()).max())
    assert f.certificate.estimate == pytest.approx(g.certificate.estimate, rel=1e-2)
    if hasattr(f, "C"):
        picked = f.columns if hasattr(f, "columns") else f.indices
        assert torch.equal(f.C, A[:, picked])


@pytest.mark.parametrize("make", MAKERS)
def test_products_and_conversions_are_tensors(rng, way, make):
    A = low_rank(rng, dtype=torch.complex128)
    f = make(A, rank=12, rng=7)
    B = f.to_dense()
    x, y = torch.from_numpy(rng.standard_normal(90)), torch.from_numpy(rng.standard_normal((3, 500)))
    for found, expected in (
        (f @ x, B @ x.to(B)),
        (y @ f, y.to(B) @ B),
        (f.H @ y[0], B.mH @ y[0].to(B)),
        (f.T @ y.mT, B.mT @ y.mT.to(B)),
        (f.T.to_dense(), B.mT),
    ):
        assert isinstance(found, torch.Tensor)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    U, s, Vh = f.svd()
    torch.testing.assert_close((U * s) @ Vh, B, rtol=0, atol=1e-9)
    Q, R = f.qb()
    torch.testing.assert_close(Q @ R, B, rtol=0, atol=1e-9)
    assert f.relative_error(A) == pytest.approx(float(torch.linalg.norm(A - B) / torch.linalg.norm(A)), rel=1e-6)
    assert f.relative_error(A.numpy()) == pytest.approx(f.relative_error(A))
    assert lr.certify(A, f, rng=8).estimate == pytest.approx(f.relative_error(A), rel=0.5)
    assert lr.certify(A.numpy(), B, rng=8).estimate == pytest.approx(f.relative_error(A), rel=0.5)
    np.testing.assert_allclose(f.aslinearoperator() @ x.numpy(), (f @ x).numpy(), atol=1e-9)


@pytest.mark.parametrize("make", MAKERS)
def test_save_load_and_pickle_keep_the_kind(rng, tmp_path, make):
    f = make(low_rank(rng), rank=5, rng=7)
    for again in (lr.load(f.save(tmp_path / "f")), pickle.loads(pickle.dumps(f))):
        assert type(again) is type(f)
        assert torch.equal(again.to_dense(), f.to_dense())
        assert again.explain() == f.explain()


def test_gradients_flow_through_products_and_not_through_the_choice(rng):
    A = low_rank(rng).requires_grad_()
    for make in MAKERS:
        f = make(A, rank=12, rng=7)
        assert "A requires a gradient" in f.explain()
        assert not any(getattr(f, name).requires_grad for name in fields(f))
        x = torch.ones(90, dtype=torch.float64, requires_grad=True)
        (f @ x).sum().backward()
        torch.testing.assert_close(x.grad, f.to_dense().sum(dim=0), rtol=0, atol=1e-9)


def test_selections_products_nystrom_and_cr(rng, way):
    A = low_rank(rng)
    J = lr.select_columns(A, 6, rng=7)
    assert isinstance(J, torch.Tensor)
    assert J.tolist() == lr.select_columns(A.numpy(), 6, rng=7).tolist()
    rows = [lr.select_rows(X, 6, method="qr", rng=7).tolist() for X in (A, A.numpy())]
    assert rows[0] == rows[1]
    again = lr.column_id(A, rank=6, selection="given", indices=J, rng=7)
    assert torch.equal(again.indices, J)
    assert isinstance(lr.column_id(A.numpy(), rank=6, selection="given", indices=J).C, np.ndarray)
    K = A @ A.mT / 100
    for f, g in (
        (lr.nystrom(K, rank=10, rng=7), lr.nystrom(K.numpy(), rank=10, rng=7)),
        (lr.nystrom(lr.GaussianKernel(2.0), A[:, :3], rank=10, rng=7),
         lr.nystrom(lr.GaussianKernel(2.0), A[:, :3].numpy(), rank=10, rng=7)),
    ):  # fmt: skip
        assert f.landmarks.tolist() == g.landmarks.tolist()
        torch.testing.assert_close(f.factor, torch.from_numpy(g.factor), rtol=1e-8, atol=1e-8)
        values, vectors = f.eigh()
        assert isinstance(values, torch.Tensor)
        assert vectors.shape == (500, f.rank)
        b = torch.ones(500, dtype=torch.float64)
        torch.testing.assert_close(f @ f.solve(b, 0.1) + 0.1 * f.solve(b, 0.1), b, rtol=0, atol=1e-6)
        assert f.logdet(0.1) == pytest.approx(g.logdet(0.1))
    c, d = lr.cr(A, A.mT, 5, rng=7), lr.cr(A.numpy(), A.numpy().T, 5, rng=7)
    assert isinstance(c.C, torch.Tensor)
    torch.testing.assert_close(c.to_dense(), torch.from_numpy(d.to_dense()))


@pytest.mark.parametrize("make", MAKERS)
def test_what_leaves_the_device_is_said(rng, as_on_a_device, make):
    f = make(low_rank(rng), rank=6, rng=7)
    assert "on the host:" in f.explain()
    assert "MB of sketches and chosen parts came from cpu" in f.explain()


def test_the_whole_matrix_stays_on_the_device(rng, as_on_a_device):
    A = low_rank(rng, 4000, 300)
    operand = as_operand(A)
    lr.column_id(operand, rank=6, rng=7)
    assert 0 < operand.counter.copied < A.numel() * 8 / 10


@pytest.mark.parametrize("sketch", ["gaussian", "trigonometric"])
def test_other_sketches_on_the_device(rng, as_on_a_device, sketch):
    A = low_rank(rng)
    f, g = lr.column_id(A, rank=12, rng=7, sketch=sketch), lr.column_id(A.numpy(), rank=12, rng=7, sketch=sketch)
    np.testing.assert_array_equal(f.indices.numpy(), g.indices)
    np.testing.assert_allclose(f.coefficients.numpy(), g.coefficients, atol=1e-9)


def test_products_keep_their_precision_and_the_users_setting(rng, as_on_a_device):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        A = low_rank(rng, dtype=torch.float32)
        assert lr.column_id(A, rank=12, rng=7).certificate.estimate < 1e-2
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_scales_at_the_ends_of_the_range(rng, way, scale):
    A = low_rank(rng) / 1e3
    f, g = lr.column_id(A * scale, rank=6, rng=7), lr.column_id(A.numpy() * scale, rank=6, rng=7)
    np.testing.assert_array_equal(f.indices.numpy(), g.indices)
    np.testing.assert_allclose(f.coefficients.numpy(), g.coefficients, atol=1e-10)
    assert f.certificate.absolute == pytest.approx(g.certificate.absolute, rel=1e-6)


@pytest.mark.parametrize("view", [lambda A: A[::2, ::3], lambda A: A.mT, lambda A: A.conj(), lambda A: A[None][0]])
def test_views_of_every_kind(rng, way, view):
    A = view(low_rank(rng, dtype=torch.complex128))
    f, g = lr.column_id(A, rank=12, rng=7), lr.column_id(A.resolve_conj().numpy(), rank=12, rng=7)
    np.testing.assert_array_equal(f.indices.numpy(), g.indices)


def test_integers_and_booleans_are_converted_and_said_so(way):
    f = lr.column_id(torch.eye(60, dtype=torch.int32), rank=2, rng=7)
    assert f.dtype is torch.float64
    assert "int32 entries were converted to float64." in f.notes
    assert lr.column_id(torch.ones(60, 5, dtype=torch.bool), rank=1, rng=7).dtype is torch.float64


def test_what_is_not_read(rng, way):
    A = low_rank(rng)
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match=rf"A has dtype {dtype}; expected float32.*A\.to\(torch\.float32\)"):
            lr.column_id(A.to(dtype), rank=3)
    with pytest.raises(TypeError, match=r"layout torch.sparse_coo; expected a strided one.*to_dense"):
        lr.column_id(A.to_sparse(), rank=3)
    with pytest.raises(TypeError, match="device meta, which has no entries"):
        lr.column_id(A.to("meta"), rank=3)
    with pytest.raises(ValueError, match=r"A has shape \(500,\); expected two dimensions"):
        lr.column_id(A[:, 0], rank=3)
    A[31, 5], A[200, 3] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"A\[31, 5\] is nan; lowrank needs finite entries"):
        lr.column_id(A, rank=3)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (100, 3)])
def test_nothing_there_and_thin(way, shape):
    f = lr.column_id(torch.ones(shape, dtype=torch.float64), rank=min(*shape, 1), rng=7)
    torch.testing.assert_close(f.to_dense(), torch.ones(shape, dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.parametrize("make", MAKERS)
def test_cuda_stays_on_cuda(rng, make):
    A = low_rank(rng)
    f, g = make(A.cuda(), rank=12, rng=7), make(A, rank=12, rng=7)
    assert isinstance(as_operand(A.cuda()), Tensor)
    assert device_of(f).type == "cuda"
    assert f.to_dense().is_cuda
    assert (f @ torch.ones(90, dtype=torch.float64, device="cuda")).is_cuda
    torch.testing.assert_close(f.to_dense().cpu(), g.to_dense(), rtol=0, atol=1e-9)
    assert torch.equal(make(A.cuda(), rank=12, rng=7).to_dense(), f.to_dense()), "one seed, one answer"
    assert "came from cuda" in f.explain()
    assert f.svd()[0].is_cuda
