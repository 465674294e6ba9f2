"""Affine scans in torch.compile, torch.export and torch.jit.trace: one operator, never the numbers of another call."""

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import _traced_scan

from .test_scan import problem

STATE = {"block": (2, 4), "dense": (2, 2), "constant": (2, 2)}
# torch.compile of numba's helpers and torch.jit are beside the point; what counts is that the numbers are right
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def arguments(rng, structure, T=5, dtype=np.float64):
    return [torch.from_numpy(x) for x in problem(rng, structure, T, dtype, STATE.get(structure, (3,)))]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "structure, reverse", [("diag", False), ("complex", True), ("dense", False), ("constant", True)]
)
def test_compiled_and_eager_scans_and_gradients_are_equal(structure, reverse, rng):
    dtype = np.complex128 if structure == "complex" else np.float64
    first, second = (arguments(rng, structure, dtype=dtype) for _ in range(2))

    def f(A, b, h0):
        return sq.affine_scan(A, b, h0, structure=structure, reverse=reverse)

    def slopes(f, tensors):
        live = [t.clone().requires_grad_() for t in tensors]
        return torch.autograd.grad(f(*live).abs().square().sum(), live)

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for tensors in (first, second):  # the second call finds the graph of the first
        assert torch.equal(compiled(*tensors), f(*tensors))
        for ours, expected in zip(slopes(compiled, tensors), slopes(f, tensors), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind, reverse", [("scalar", True), ("diag", True), ("block", False), ("constant", False)])
def test_the_operator_keeps_torchs_rules(kind, reverse, rng):
    A, b, h0 = arguments(rng, kind)
    b, h0 = (b.unflatten(-1, (2, 2)), h0.unflatten(-1, (2, 2))) if kind == "block" else (b, h0)
    live = [t.requires_grad_() for t in (A, b, h0)]
    torch.library.opcheck(_traced_scan._scan, (*live, kind, reverse, None, None))
    torch.library.opcheck(_traced_scan._scan, (*live, kind, reverse, 2, 6e4), test_utils="test_schema")


class Layer(torch.nn.Module):
    def forward(self, A, b):
        return sq.affine_scan(A, b, structure="diag").tanh()


def test_exported_and_traced_modules_compute_and_do_not_remember(rng):
    layer, (A, b, _) = Layer(), arguments(rng, "diag", T=9)
    for module in (torch.export.export(layer, (A, b)).module(), torch.jit.trace(layer, (A, b))):
        assert torch.equal(module(A, b), layer(A, b))
        assert torch.equal(module(A / 2, b - 1), layer(A / 2, b - 1))


def test_overflow_is_told_from_inside_a_compiled_function():
    b = torch.ones(400, 1)
    grow = torch.compile(lambda b: sq.affine_scan(torch.full_like(b, 9.0), b), fullgraph=True, backend="eager")
    with pytest.raises(OverflowError, match=r"overflows .* float64 reaches further"):
        grow(b)


def test_memory_of_the_callers_cannot_be_traced():
    b, out = torch.ones(4, 2), torch.empty(4, 2)
    with pytest.raises(ValueError, match=r"out= is nothing that .* can follow"):
        torch.jit.trace(lambda b: sq.affine_scan(b / 2, b, out=out), b)


def test_shapes_alone_have_a_result():
    A, b = torch.empty(4, 3, device="meta"), torch.empty(4, 3, device="meta")
    assert sq.affine_scan(A, b).shape == (4, 3)
    with pytest.raises(ValueError, match="A on meta, b on cpu; move them to one device"):
        sq.affine_scan(A, torch.ones(4, 3))
    with pytest.raises(TypeError, match=r"b is a tensor of layout torch.sparse_coo; pass b.to_dense\(\)"):
        sq.affine_scan(torch.ones(4, 3), torch.ones(4, 3).to_sparse())
