"""Which kind of matrix goes into which factorisation: ``python -m benchmarks.conformance_table`` prints the table.

Every cell is measured: "yes" where the result is as good as that of the array in memory, else a letter whose sentence,
the one that a user would read, stands below the table.
"""

import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import lowrank as lr

RANK = 6


def psd(rng: np.random.Generator, dtype: Any = np.float64) -> np.ndarray:
    """A 60 x 60 positive semidefinite matrix of which a third of the entries are zero."""
    B = lr.gallery.exponential_decay(60, 40, scale=3.0, rng=rng, dtype=dtype)
    B[np.abs(B) < 0.2 * np.abs(B).max()] = 0
    return B @ B.conj().T


def kinds(folder: Path) -> dict[str, Callable[[np.ndarray], Any]]:
    """What a user may pass for the same matrix; a kind whose library is absent raises ImportError."""
    import scipy.sparse
    from scipy.sparse.linalg import aslinearoperator

    def strided(A):
        wide = np.zeros((2 * A.shape[0], 3 * A.shape[1]), A.dtype)
        wide[::2, ::3] = A
        return wide[::2, ::3]

    def mapped(A):
        np.save(folder / "A.npy", A)
        return np.load(folder / "A.npy", mmap_mode="r")

    def zarr(A):
        import zarr

        return zarr.array(A, chunks=(32, 32))

    def dask(A):
        import dask.array

        return dask.array.from_array(A, chunks=(32, 32))  # pyright: ignore

    def torch(A):
        import torch

        return torch.from_numpy(A)

    return {
        "numpy, C order": np.ascontiguousarray, "numpy, Fortran order": np.asfortranarray, "numpy, strided": strided,
        "numpy, float32": lambda A: A.astype(np.float32), "numpy, complex128": lambda A: A.astype(np.complex128),
        "numpy, memory map": mapped, "nested lists": lambda A: A.tolist(),
        "scipy CSR": scipy.sparse.csr_array, "scipy CSC": scipy.sparse.csc_array, "scipy COO": scipy.sparse.coo_array,
        "scipy LinearOperator": aslinearoperator,
        "KernelMatrix": lambda A: lr.KernelMatrix(lambda P, Q: A[np.ix_(P[:, 0].astype(int), Q[:, 0].astype(int))],
                                                  np.arange(len(A))[:, None]),
        "zarr": zarr, "dask": dask, "torch": torch,
    }  # fmt: skip


def factorisations() -> dict[str, Callable[[Any, np.ndarray], float]]:
    """The relative error that each leaves of the matrix, given what stands for it and the array itself."""

    def error(B, A):
        B = B.to_dense() if hasattr(B, "to_dense") else B
        B = B.numpy() if hasattr(B, "numpy") else np.asarray(B)
        return float(np.linalg.norm(A - B) / np.linalg.norm(A))

    def left(pick):
        def by_columns(X, A):
            J = np.asarray(pick(X, RANK, rng=7))
            return error(A[:, J] @ np.linalg.lstsq(A[:, J], A, rcond=None)[0], A)

        return by_columns

    return {
        "column_id": lambda X, A: error(lr.column_id(X, rank=RANK, rng=7), A),
        "row_id": lambda X, A: error(lr.row_id(X, rank=RANK, rng=7), A),
        "two_sided_id": lambda X, A: error(lr.two_sided_id(X, rank=RANK, rng=7), A),
        "cur": lambda X, A: error(lr.cur(X, rank=RANK, rng=7), A),
        "tol=": lambda X, A: error(lr.column_id(X, tol=1e-2, rng=7), A),
        "nystrom": lambda X, A: error(lr.nystrom(X, rank=RANK, rng=7), A),
        "select": left(lr.select_columns),
        "certify": lambda X, A: abs(lr.certify(X, np.zeros_like(A), rng=7).estimate - 1) / 1e3,
        "cr": lambda X, A: error(lr.cr(X, X, RANK, method="greedy", weights="full"), A @ A),
        "pinv": lambda X, A: error(A @ np.asarray(lr.pinv(X, rcond=1e-3).matrix) @ A, A),
    }


@cache
def table() -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """(columns, row of cells for each kind, the sentence of each letter)."""
    A = psd(np.random.default_rng(20261))
    columns, rows, sentences = factorisations(), {}, {}
    expected = {name: run(A, A) for name, run in columns.items()}
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in kinds(Path(folder)).items():
            cells = []
            for name, run in columns.items():
                try:
                    found = run(make(A), A)
                    cell = "yes" if found <= 2 * expected[name] + 1e-3 else f"NO: {found:.2g}"
                except (TypeError, NotImplementedError) as refusal:
                    said = re.sub(r"^[AX] is an? [\w.]+(; |, )", "", str(refusal))
                    cell = sentences.setdefault(said, chr(ord("a") + len(sentences)))
                except ImportError as absent:
                    cell = f"({absent.name} is not installed)"
                cells.append(cell)
            rows[kind] = cells
    return list(columns), rows, {letter: sentence for sentence, letter in sentences.items()}


def markdown() -> str:
    """The table and its sentences, for the manual."""
    columns, rows, sentences = table()
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {kind} | " + " | ".join(cells) + " |" for kind, cells in rows.items()]
    return "\n".join([*lines, "", *(f"- {letter}: {sentence}" for letter, sentence in sentences.items())])


if __name__ == "__main__":
    print(markdown())
