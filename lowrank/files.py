"""Matrices from files: .npy (memory-mapped), .npz (arrays, and what scipy.sparse.save_npz wrote), .mtx and .csv."""

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SUFFIXES", "read_matrix"]

SUFFIXES = (".npy", ".npz", ".mtx", ".csv")


def read_matrix(path: Path, key: str | None = None) -> Any:
    """The matrix in a file, as a numpy array (a memory map for .npy) or a scipy.sparse array.

    key : the array's name in a .npz that holds several.

    Raises ValueError with one sentence for a file that is damaged, of another kind, or holds no matrix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} is none of {', '.join(SUFFIXES)}")
    if key is not None and suffix != ".npz":
        raise ValueError(f"--key goes with a .npz file, not with {path}")
    read = {".npy": _npy, ".npz": _npz, ".mtx": _mtx, ".csv": _csv}[suffix]
    A = read(path, key) if suffix == ".npz" else read(path)
    if A.ndim != 2:
        raise ValueError(f"{path} holds an array of shape {A.shape}; expected a matrix, of two dimensions")
    return A


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path} is not a .npy file, or it is damaged (its first bytes are not those of numpy)")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise _damaged(path, problem, ".npy") from problem


def _npz(path: Path, key: str | None) -> Any:
    import zipfile

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not hasattr(arrays, "files"):
                raise ValueError("it is a .npy file under another name")
            names = list(arrays.files)
            if key is None and {"format", "shape", "data"} <= set(names):
                from scipy.sparse import load_npz

                file.seek(0)
                return load_npz(file)
            if key is None and len(names) == 1:
                key = names[0]
            if key in names:
                return arrays[key]
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as problem:
        raise _damaged(path, problem, ".npz") from problem
    if key is None:
        raise ValueError(f"{path} holds {len(names)} arrays; pass --key with one of {', '.join(names) or 'none'}")
    raise ValueError(f"{path} has no array {key!r}; pass --key with one of {', '.join(names)}")


def _damaged(path: Path, problem: Exception, kind: str) -> ValueError:
    if any(word in str(problem) for word in ("Object arrays", "Python objects", "pickle")):
        return ValueError(f"{path} holds pickled Python objects, which are not read; save it as an array of numbers")
    first = (str(problem).splitlines() or [type(problem).__name__])[0]
    return ValueError(f"{path} is not a {kind} file, or it is damaged ({first.rstrip('.')})")


def _mtx(path: Path) -> Any:
    from scipy.io import mmread

    try:
        A: Any = mmread(path)
    except (ValueError, OSError, OverflowError, EOFError) as problem:
        raise _damaged(path, problem, "Matrix Market") from problem
    if not hasattr(A, "tocsr"):
        return A
    from scipy.sparse import csr_array

    return csr_array(A)


def _csv(path: Path) -> np.ndarray:
    """Numbers with commas (or semicolons, or tabs) between them; one line of names may stand before."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as problem:
        raise ValueError(f"{path} is not text in UTF-8 ({problem})") from problem
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path} is empty")
    first = lines[0][1]
    mark = next((mark for mark in ",;\t" if mark in first), ",")
    if _numbers(first.split(mark)) is None:
        lines = lines[1:]
    rows = []
    for number, line in lines:
        fields = line.split(mark)
        values = _numbers(fields)
        if values is None:
            wrong = next(field for field in fields if _numbers([field]) is None)
            raise ValueError(f"{path}, line {number}: {wrong.strip()!r} is not a number")
        if rows and len(values) != len(rows[0]):
            raise ValueError(f"{path}, line {number}: {len(values)} numbers, but the lines before have {len(rows[0])}")
        rows.append(values)
    return np.array(rows).reshape(len(rows), -1) if rows else np.empty((0, len(first.split(mark))))


def _numbers(fields: list[str]) -> list[float] | None:
    try:
        return [float(field) for field in fields]
    except ValueError:
        return None
