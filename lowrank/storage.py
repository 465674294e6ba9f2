"""Results in files: arrays by name in a ``.npz``, everything else as JSON beside them; never a pickle."""

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np

from ._tensors import from_numpy, is_tensor, to_numpy

FORMAT = 2  # 1 had certificates without what an update adds to, and no transposes
SPARSE_PARTS = ("data", "indices", "indptr")
SPARSE_KINDS = ("csr_array", "csc_array", "csr_matrix", "csc_matrix")


def save(result: Any, path) -> Path:
    """Write `result` to `path`, with ``.npz`` where it is missing."""
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    arrays: dict[str, np.ndarray] = {}
    meta = {"format": FORMAT, "result": _pack(result, "", arrays)}
    np.savez(path, allow_pickle=False, __meta__=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
    return path


def load(path) -> Any:
    """Read a result that ``result.save(path)`` wrote, in this version of lowrank or an earlier one.

    Parameters
    ----------
    path : the path given to ``save``, with or without ``.npz``.

    Returns
    -------
    The result, of the class that was saved. One of format 1 (before columns could be added) has no basis for
    ``update``, which says so.

    Raises
    ------
    ValueError
        If the file is not a result of this package, or was written by a newer version of the format.

    Examples
    --------
    >>> import numpy as np, lowrank as lr, tempfile, pathlib
    >>> f = lr.column_id(np.vander(np.arange(1.0, 9), 5), rank=2, rng=7)
    >>> g = lr.load(f.save(pathlib.Path(tempfile.mkdtemp()) / "id"))
    >>> bool((g.to_dense() == f.to_dense()).all())
    True
    """
    path = Path(path)
    if not path.exists() and path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        meta = json.loads(str(arrays.pop("__meta__")))
        version, packed = int(meta["format"]), meta["result"]
        if version <= FORMAT:
            return _unpack(packed, arrays)
    except FileNotFoundError:
        raise
    except ImportError as absent:
        raise ImportError(f"{path.name} holds tensors, which need {absent.name}; install it to read them") from absent
    except Exception as problem:
        raise ValueError(f"{path.name} is not a result saved by lowrank, or it is damaged ({problem})") from problem
    raise ValueError(f"{path.name} has format {version}, but this version of lowrank reads up to {FORMAT}; upgrade it")


def _classes() -> dict[str, Any]:
    import lowrank

    from .certificate import Certificate
    from .column_row import ColumnRow, PairStatus
    from .cur import CUR, Core
    from .feature_map import FeatureMap
    from .interpolative import ColumnID, RowID
    from .nystrom import Nystrom
    from .results import Record, Status, Transpose
    from .two_sided import TwoSidedID

    known = (ColumnID, RowID, TwoSidedID, CUR, Core, Nystrom, ColumnRow, PairStatus, Record, Certificate, Status)
    kernels = (getattr(lowrank, name) for name in lowrank.__all__ if name.endswith("Kernel"))
    return {c.__name__: c for c in (*known, Transpose, FeatureMap, *kernels)}


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if is_tensor(value):
        arrays[name] = to_numpy(value)
        return {"tensor": name, "device": str(value.device)}
    if hasattr(value, "toarray"):
        arrays.update({f"{name}.{part}": getattr(value, part) for part in SPARSE_PARTS})
        return {"sparse": type(value).__name__, "name": name, "shape": list(value.shape)}
    if isinstance(value, enum.Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if dataclasses.is_dataclass(value):
        fields = {f.name: _pack(getattr(value, f.name), f"{name}.{f.name}", arrays) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if hasattr(value, "base") and hasattr(value, "conjugate"):
        fields = {"base": _pack(value.base, f"{name}.base", arrays), "conjugate": value.conjugate}
        return {"class": "Transpose", "fields": fields}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_pack(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]}
    return value.item() if isinstance(value, np.generic) else value


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "tensor" in value:
        import torch

        kind = value["device"].partition(":")[0]  # back to where it was, if that is here too
        here = kind == "cpu" or (kind == "cuda" and torch.cuda.is_available())
        return from_numpy(arrays[value["tensor"]], kind if here else "cpu")
    if "sparse" in value:
        import scipy.sparse

        known = {c.__name__: c for c in (getattr(scipy.sparse, name) for name in SPARSE_KINDS)}
        parts = tuple(arrays[f"{value['name']}.{part}"] for part in SPARSE_PARTS)
        return known[value["sparse"]](parts, shape=tuple(value["shape"]))
    if "tuple" in value:
        return tuple(_unpack(item, arrays) for item in value["tuple"])
    if "enum" in value:
        return _classes()[value["enum"]][value["name"]]
    return _classes()[value["class"]](**{key: _unpack(item, arrays) for key, item in value["fields"].items()})
