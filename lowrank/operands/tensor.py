"""torch tensors: in main memory read in place as arrays, on an accelerator sketched where they are."""

import sys
from contextlib import contextmanager
from typing import Any

import numpy as np

from lowrank._tensors import from_numpy, is_tensor, to_numpy
from lowrank.sketching import Embedding, Sketch, SparseStack

from .base import Counter, Operand
from .dense import Dense, readable

IN_PLACE = ("cpu",)  # devices whose memory numpy reads; tests empty it to run the other path here
ENTRIES = 1 << 24  # of A that a panel of the sketch has


class HostTensor(Dense):
    """A tensor in main memory: the same memory as an array, so one seed gives the answer of the array, bit by bit."""

    kind = "tensor in main memory"


class Tensor(Operand):
    """A two-dimensional strided tensor on an accelerator.

    Passes over A are products on its device. The sketch of d rows, the probes and chosen columns and rows, (d + p) n +
    k (m + n) numbers, come to the host, where columns are chosen and coefficients solved for; results go back, and
    ``explain()`` says how much was copied. A itself stays. A tensor that requires a gradient is read outside of its
    graph, because a choice of columns has no derivative; a note says so.

    The sparse sketch is a product with a panel of S made dense, a GEMM: adding rows of A by their bucket would need
    atomic additions, whose order changes from run to run. 2 d m n flops, exact in their order for one device.
    """

    kind = "tensor"
    reads = "strided torch tensors (float32, float64, complex64, complex128), with leading batch dimensions"

    def __init__(self, A: Any, counter: Counter | None = None, notes: tuple[str, ...] = (), factor: float = 1.0):
        self.factor = factor  # by which A has been multiplied
        self.A, self.shape = A, (int(A.shape[0]), int(A.shape[1]))
        self.dtype = np.dtype(str(A.dtype).removeprefix("torch."))
        self.counter, self.notes = counter or Counter(), notes

    @classmethod
    def accepts(cls, A) -> bool:
        return is_tensor(A)

    @classmethod
    def wrap(cls, A: Any) -> Operand:
        A, notes = _checked(A)
        if A.device.type in IN_PLACE:
            return HostTensor(to_numpy(A), notes=notes)
        return cls(A, notes=notes)

    @property
    def T(self) -> "Tensor":
        return Tensor(self.A.mT, self.counter, self.notes, self.factor)

    def scaled(self, factor: float) -> "Tensor":
        return Tensor(self.A * factor, self.counter, self.notes, factor * self.factor)

    def _host(self, tensor: Any) -> np.ndarray:
        """A part of the matrix or a product with it, in main memory, and counted."""
        self.counter.copied += tensor.numel() * tensor.element_size()
        return to_numpy(tensor)

    # --- verbs ---

    def _sketch(self, S: SparseStack, probes: np.ndarray | None, workers: int) -> Sketch:
        import torch

        rows, signs = torch.from_numpy(S.rows), torch.from_numpy(S.signs)

        def panel(i: int, e: int, like: Any) -> Any:
            part = torch.zeros(S.height, e - i, dtype=like.dtype, device=like.device)
            where = rows[i:e].T.to(like.device, torch.int64)
            return part.scatter_(0, where, signs[i:e].T.to(like.device, like.dtype))  # one entry a block: no collision

        return self._panels(S.height, panel, probes)

    def _sketch_by(self, S: Embedding, probes: np.ndarray | None, workers: int) -> Sketch:
        import torch

        whole = S.block(0, S.height)
        if np.iscomplexobj(whole):
            found = np.concatenate([whole, np.zeros((0, self.shape[0])) if probes is None else probes])
            product = self._rmatmat(np.ascontiguousarray(found.conj().T), workers).conj().T
            norms = self._panels(0, lambda i, e, like: torch.zeros(0, e - i).to(like), None).squared_norms
            return Sketch(product[: S.height], product[S.height :], norms)
        dense = torch.from_numpy(np.ascontiguousarray(whole))
        return self._panels(S.height, lambda i, e, like: dense[:, i:e].to(like.device, like.dtype), probes)

    def _panels(self, height: int, panel: Any, probes: np.ndarray | None) -> Sketch:
        """Sums of ``panel(i, e) A[i:e]`` over panels of rows; a complex column is two real ones."""
        import torch

        (m, n), A = self.shape, self.A
        parts = 2 if A.is_complex() else 1
        real = torch.zeros(0, dtype=A.dtype, device=A.device).real
        Y, W = real.new_zeros(height, parts * n), real.new_zeros(0 if probes is None else len(probes), parts * n)
        norms = torch.zeros(parts * n, dtype=torch.float64, device=A.device)
        omega = None if probes is None else torch.from_numpy(np.ascontiguousarray(probes))
        high = max(1, min(m, ENTRIES // max(parts * n, 1)))
        with full_precision():
            for i in range(0, m, high):
                e = min(i + high, m)
                block = A[i:e].resolve_conj().resolve_neg().contiguous()
                block = torch.view_as_real(block).reshape(e - i, parts * n) if parts == 2 else block
                Y.addmm_(panel(i, e, real), block)
                if omega is not None:
                    W.addmm_(omega[:, i:e].to(real.device, real.dtype), block)
                norms += torch.linalg.vector_norm(block, dim=0, dtype=torch.float64) ** 2
        whole = [self._host(part) for part in (Y, W, norms)]
        squared = whole[2].reshape(n, parts).sum(axis=1)
        return Sketch(np.ascontiguousarray(whole[0]).view(self.dtype), whole[1].view(self.dtype), squared)

    def _rmatmat(self, X: np.ndarray, workers: int) -> np.ndarray:
        import torch

        right = from_numpy(np.ascontiguousarray(X), self.A.device)
        dtype = torch.promote_types(right.dtype, self.A.dtype)
        with full_precision():
            return self._host(self.A.mH.to(dtype) @ right.to(dtype))

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        part = self.A
        for axis, index in ((1, columns), (0, rows)):
            if isinstance(index, slice):
                part = part.narrow(axis, index.start, index.stop - index.start)
            else:
                part = part.index_select(axis, from_numpy(np.asarray(index, np.int64), part.device))
        np.copyto(out, self._host(part))

    def diagonal(self) -> np.ndarray:
        self._served(min(self.shape))
        return self._host(self.A.diagonal()).copy()

    def largest(self) -> float:
        import torch

        if 0 in self.shape:
            return 0.0
        finite = torch.isfinite(self.A)
        if not bool(finite.all()):
            row, column = (int(x) for x in torch.nonzero(~finite)[0])
            raise ValueError(
                f"A[{row}, {column}] is {self.A[row, column].item()}; lowrank needs finite entries, "
                "so remove or impute them first"
            )
        parts = (self.A.real, self.A.imag) if self.A.is_complex() else (self.A,)
        return max(float(part.abs().max()) for part in parts)


def _checked(A: Any) -> tuple[Any, tuple[str, ...]]:
    """The tensor outside of its graph, of a dtype to compute in, and what to say of it."""
    import torch

    if A.layout is not torch.strided:
        raise TypeError(
            f"A is a tensor of layout {A.layout}; expected a strided one, so pass A.to_dense() or a scipy.sparse matrix"
        )
    if A.device.type == "meta":
        raise TypeError("A is a tensor on the device meta, which has no entries; move it to a real device")
    if A.ndim != 2:
        raise ValueError(f"A has shape {tuple(A.shape)}; expected two dimensions, so reshape it to a matrix")
    notes: tuple[str, ...] = ()
    name = str(A.dtype).removeprefix("torch.")
    if A.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        if A.is_floating_point() or A.is_complex() or A.is_quantized:
            raise TypeError(
                f"A has dtype {A.dtype}; expected float32, float64, complex64 or complex128, "
                "so convert it with A.to(torch.float32) or another of these"
            )
        notes = readable(np.dtype(name))[1]
        A = A.to(torch.float64)
    if A.requires_grad:
        notes = (*notes, "A requires a gradient; the choice of columns has none, and the result is outside the graph.")
        A = A.detach()
    return A, notes


@contextmanager
def full_precision():
    """Products of float32 in float32, whatever shorter format the user allows torch elsewhere."""
    torch: Any = sys.modules["torch"]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
