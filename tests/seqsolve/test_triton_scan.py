"""The Triton kernels beside the rows one by one: interpreted on tiny shapes anywhere, compiled where there is a GPU."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import seqsolve as sq
from tests.conftest import ROOT
from tests.reference import affine_scan as reference

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# triton reads TRITON_INTERPRET when it is imported, so that the interpreter has a process of its own
PROGRAM = """
import torch
from seqsolve import _device_scan, _triton_scan as kernels

generator = torch.Generator().manual_seed(20411)

def draw(shape, dtype):
    return torch.randn(shape, generator=generator, dtype=dtype)

cases = [("diag", (3,), torch.float32), ("diag", (2, 2), torch.complex64), ("diag", (1,), torch.float64),
         ("diag", (2,), torch.complex128), ("block", (2, 2), torch.float32), ("block", (1, 3), torch.float64),
         ("block", (1, 4), torch.float32)]
count = 0
for kind, state, dtype in cases:
    for T, chunks in ((1, None), (2, 2), (7, 3), (67, None), (12, 12)):
        A = 0.6 * draw((T, *state, state[-1]) if kind == "block" else (T, *state), dtype)
        b, h0 = draw((T, *state), dtype), draw(state, dtype)
        for reverse in (False, True):
            found = kernels.triton_scan(A, b, h0, kind, reverse, chunks)
            truth = _device_scan.rows(A, b, h0, kind, reverse)
            error = float((found - truth).abs().max() / truth.abs().max())
            assert error < 100 * torch.finfo(dtype).eps, (kind, state, dtype, T, chunks, reverse, error)
            other = _device_scan.doubling(A, b, h0, kind, reverse)  # the fallback has the same signature
            assert torch.allclose(found, other, rtol=1e-4, atol=1e-4)
            count += 1
A, b, h0 = torch.full((9, 2), 0.5), torch.ones(9, 2), torch.zeros(2)
b[4, 1] = torch.nan
found = kernels.triton_scan(A, b, h0, "diag", False, 3)
assert found[:, 0].isfinite().all() and found[:4].isfinite().all() and found[4:, 1].isnan().all()
assert kernels.fits(A, "diag") and not kernels.fits(A.half(), "diag") and not kernels.fits(A, "scalar")
print("agreed", count)
"""


@needs_triton
def test_interpreted_kernels_are_the_rows():
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "agreed 70"


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("T, state", [(1, (3,)), (33, (5,)), (100_003, (1,)), (4099, (2, 64)), (40, (70_000,))])
def test_diagonals_on_a_gpu(T, state, dtype, reverse, rng):
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
    A = 0.9 * torch.rand((T, *state), generator=generator, dtype=dtype)
    b, h0 = torch.randn((T, *state), generator=generator, dtype=dtype), torch.ones(state, dtype=dtype)
    found = sq.affine_scan(A.cuda(), b.cuda(), h0.cuda(), structure="diag", reverse=reverse)
    assert found.is_cuda
    expected = sq.affine_scan(A, b, h0, structure="diag", reverse=reverse)
    assert float((found.cpu() - expected).abs().max()) < 1e3 * torch.finfo(dtype).eps * float(expected.abs().max())


@pytest.mark.gpu
@pytest.mark.parametrize("structure, k", [("block", 2), ("block", 3), ("block", 4), ("dense", 6), ("constant", 6)])
def test_matrices_on_a_gpu(structure, k, rng):
    n, T = 12 if structure == "block" else k, 2500
    shape = {"block": (T, n // k, k, k), "dense": (T, n, n), "constant": (n, n)}[structure]
    A, b = rng.uniform(-0.9, 0.9, shape) / k, rng.standard_normal((T, n))
    tensors = [torch.from_numpy(x).cuda().requires_grad_() for x in (A, b)]
    found = sq.affine_scan(*tensors, structure=structure)
    np.testing.assert_allclose(found.detach().cpu(), reference(A, b, np.zeros(n), structure), rtol=1e-11, atol=1e-11)
    found.sum().backward()
    mine = [t.grad.cpu() for t in tensors]
    leaves = [torch.from_numpy(x).requires_grad_() for x in (A, b)]
    sq.affine_scan(*leaves, structure=structure).sum().backward()
    for one, two in zip(mine, leaves, strict=True):
        torch.testing.assert_close(one, two.grad, rtol=1e-9, atol=1e-9)
