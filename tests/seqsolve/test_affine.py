"""Derivatives of affine scans in both modes and under vmap, for every structure and direction."""

import numpy as np
import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import seqsolve as sq
from seqsolve import scan

from .test_scan import problem

# torch's own first use of forward mode compiles its decompositions by torch.jit.script, which it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
STATE = {"block": (2, 4), "dense": (2, 2), "constant": (2, 2)}


def arguments(rng, structure, T=4, dtype=np.float64):
    return [torch.from_numpy(x) for x in problem(rng, structure, T, dtype, STATE.get(structure, (2,)))]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("structure", scan.STRUCTURES)
def test_first_and_second_derivatives_in_both_modes(structure, dtype, reverse, rng):
    if structure == "complex" and dtype == np.float64:
        return  # the same numbers as complex128
    tensors = [t.requires_grad_() for t in arguments(rng, structure, dtype=dtype)]

    def f(A, b, h0):
        return sq.affine_scan(A, b, h0, structure=structure, reverse=reverse)

    assert torch.autograd.gradcheck(f, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, tensors, check_fwd_over_rev=dtype == np.float64)


@pytest.mark.parametrize("structure", scan.STRUCTURES)
def test_vmap_is_a_loop_over_the_batch(structure, rng):
    batch = [arguments(rng, structure) for _ in range(3)]
    A, b, h0 = (torch.stack(column) for column in zip(*batch, strict=True))

    def f(A, b, h0):
        return sq.affine_scan(A, b, h0, structure=structure)

    for axes in ((0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0), (None, 0, 0)):
        given = [t if axis == 0 else t[0] for t, axis in zip((A, b, h0), axes, strict=True)]
        expected = [f(*(t[i] if a == 0 else t for t, a in zip(given, axes, strict=True))) for i in range(3)]
        torch.testing.assert_close(vmap(f, axes)(*given), torch.stack(expected), rtol=0, atol=1e-14)
    torch.testing.assert_close(vmap(vmap(f))(A[None], b[None], h0[None])[0], vmap(f)(A, b, h0), rtol=0, atol=1e-14)
    moved = vmap(f, (-1, 1, -1), 1)(A.movedim(0, -1), b.movedim(0, 1), h0.movedim(0, -1))
    torch.testing.assert_close(moved.movedim(1, 0), vmap(f)(A, b, h0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("structure", [s for s in scan.STRUCTURES if s != "complex"])
def test_transforms_compose(structure, rng):
    A, b, h0 = arguments(rng, structure, 3)

    def f(A, b, h0):
        return sq.affine_scan(A, b, h0, structure=structure).sin().sum()

    for i in range(3):
        torch.testing.assert_close(jacfwd(f, i)(A, b, h0), jacrev(f, i)(A, b, h0))
        outer = hessian(f, i)(A, b, h0)
        torch.testing.assert_close(outer, jacrev(jacrev(f, i), i)(A, b, h0))
        torch.testing.assert_close(outer, jacfwd(jacfwd(f, i), i)(A, b, h0))
    tangent = jvp(lambda b: f(A, b, h0), (b,), (torch.ones_like(b),))[1]
    torch.testing.assert_close(tangent, grad(f, 1)(A, b, h0).sum())
    per_sample = vmap(grad(f, 1), (None, 0, None))(A, torch.stack([b, 2 * b]), h0)
    torch.testing.assert_close(per_sample[1], grad(f, 1)(A, 2 * b, h0))


def test_pairs_and_halves_have_gradients(rng):
    A, b, h0 = (torch.from_numpy(rng.uniform(-0.7, 0.7, s)).requires_grad_() for s in ((4, 3, 2), (4, 3, 2), (3, 2)))
    assert torch.autograd.gradcheck(lambda *t: sq.affine_scan(*t, structure="complex"), (A, b, h0))
    half = b.detach().half().requires_grad_()
    sq.affine_scan(A.detach().half(), half, structure="complex").sum().backward()
    assert half.grad.dtype == torch.float16
    assert torch.isfinite(half.grad).all()
    real = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)  # a real b under a complex A
    sq.affine_scan(torch.full((3, 2), 0.5j, dtype=torch.complex128), real).abs().sum().backward()
    assert not real.grad.is_complex()
