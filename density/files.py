"""Arrays from files: numpy's .npy and .npz, tables of text, and the tensors of a .safetensors."""

from pathlib import Path

import numpy as np


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """The array in a .npy, .npz or .csv file; a .csv may have one line of names.

    Parameters
    ----------
    path : the file.
    key : name of the array in a .npz, or number (from 0) of the column in a .csv; None for the only one, or for all.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        The file is of another kind, is damaged, holds Python objects, or has no such key.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _column(path, _table(path), key)
    if suffix not in (".npy", ".npz"):
        raise ValueError(f"{path} is none of .npy, .npz, .csv")
    arrays = _arrays(path, None if key is None else {key})
    if isinstance(arrays, np.ndarray):
        if key is not None:
            raise ValueError(f"{path} holds one array without a name; leave --key {key} out")
        return arrays
    if key is None and len(arrays) != 1:
        raise ValueError(f"{path} holds {len(arrays)} arrays; pass --key with one of {list(arrays)}")
    if key is not None and key not in arrays:
        raise ValueError(f"{path} has no array {key!r}; pass --key with one of {list(arrays)}")
    return arrays[next(iter(arrays)) if key is None else key]


def read_tensors(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays of a .safetensors, or of a .npz with more than one; else None."""
    if path.suffix.lower() == ".safetensors":
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # SafetensorError is no ValueError
            raise ValueError(f"{path} is not a file that safetensors can read ({error})") from None
    if path.suffix.lower() == ".npz":
        arrays = _arrays(path)
        return arrays if isinstance(arrays, dict) and len(arrays) > 1 else None
    return None


def _arrays(path: Path, wanted: set[str] | None = None) -> np.ndarray | dict[str, np.ndarray]:
    """What numpy finds, whatever the file is called; of an archive only the `wanted` are read, the others are empty."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged archive open
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            return {name: found[name] if wanted is None or name in wanted else np.empty(0) for name in found.files}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a foreign or damaged file raises almost anything
        if "Object arrays" in str(error):
            raise ValueError(f"{path} holds Python objects; save an array of numbers") from None
        raise ValueError(f"{path} is damaged, or is no file of numpy.save or numpy.savez") from None


def _table(path: Path) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    skip = int(bool(lines) and not _fields(lines[0]))
    if len(lines) <= skip:
        return np.empty((0, 1))
    try:
        return np.loadtxt(lines[skip:], delimiter=",", ndmin=2)
    except ValueError as error:
        full = [(number, line) for number, line in enumerate(lines[skip:], skip + 1) if line.strip()]
        width = _fields(full[0][1])
        for number, line in full:
            if not width or _fields(line) != width:
                wanted = f"{width} numbers" if width > 1 else "numbers"
                raise ValueError(f"{path}, line {number}: {line[:60]!r} is not {wanted} between commas") from None
        raise ValueError(f"{path} is no table of numbers: {error}") from None


def _column(path: Path, table: np.ndarray, key: str | None) -> np.ndarray:
    if key is None:
        return table
    if not (key.isascii() and key.isdecimal()) or int(key) >= table.shape[1]:
        raise ValueError(f"{path} has columns 0 to {table.shape[1] - 1}; there is no column {key!r}")
    return table[:, int(key)]


def _fields(line: str) -> int:
    """How many numbers a line holds; 0 where it holds something else."""
    try:
        return len([float(field) for field in line.split(",")])
    except ValueError:
        return 0
