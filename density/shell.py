"""What ``python -m density`` says of arrays that it compressed, and of files that it is shown."""

import lzma
import zlib

import numpy as np

from .coding import decompress, mode_of
from .container import STORED, parse
from .counting import count_values
from .integers import STEPS, to_integers
from .tensors import tensor_reports

_SAMPLE = 1 << 22  # bytes of an array that zlib and lzma are tried on: lzma takes a second for them


def summary(arrays: list[np.ndarray], size: int, step: float | None) -> dict:
    """Bits a value, the empirical entropy beside them, and how much longer zlib and lzma would be.

    Both are given what the coder gets: the levels of floats with a step, in the narrowest integers that hold them, else
    the elements as they are. Of arrays above 4 MiB they are given the first 4 MiB, and the ratio is scaled.
    """
    count = sum(x.size for x in arrays)
    if not count:
        return {"summary": f"no values, {size} bytes"}
    entropy, theirs = 0.0, {"zlib": 0.0, "lzma": 0.0}
    for x in arrays:
        mode, unit = mode_of(x.dtype, step, x.dtype.kind == "f" and step is None) if x.dtype.kind == "f" else (1, 0.0)
        values, _, _ = to_integers(np.ascontiguousarray(x).reshape(-1), mode, unit)
        if not values.size:
            continue
        _, counts, special = count_values([values], mode, 1)
        counts = np.concatenate([counts, special[special > 0]])
        entropy += float(counts @ np.log2(values.size / counts))
        given = _narrow(values) if mode == STEPS else np.ascontiguousarray(x).reshape(-1)
        data = given[: max(1, _SAMPLE // given.itemsize)].tobytes()
        theirs["zlib"] += len(zlib.compress(data, 9)) * given.nbytes / len(data)
        theirs["lzma"] += len(lzma.compress(data)) * given.nbytes / len(data)
    found = {"bits_per_value": 8 * size / count, "entropy_bits": entropy / count}
    found |= {f"{name}_over_ours": bytes_ / size for name, bytes_ in theirs.items()}
    line = f"{found['bits_per_value']:.3f} bits a value, empirical entropy {found['entropy_bits']:.3f}; "
    line += ", ".join(f"{name} {found[f'{name}_over_ours']:.2f} x as long" for name in theirs)
    return found | {"summary": line}


def describe(data: bytes) -> dict:
    """What a compressed file is; it is decoded, so that damage shows."""
    if data[:4] == b"TDNT":
        from .tensors import decompress_tensors

        decompress_tensors(data)
        reports = tensor_reports(data)
        found = {"kind": "compressed tensors", "bytes": len(data), "tensors": len(reports)}
        return found | {
            r.name: f"{r.dtype} {list(r.shape)}, step {r.step:g}, {r.bits:.3f} bits a value" for r in reports
        }
    x = decompress(data)
    found = {"kind": "compressed array", "bytes": len(data), "dtype": str(x.dtype), "shape": list(x.shape)}
    found |= {"version": data[4], "bits_per_value": 8 * len(data) / x.size if x.size else None}
    if data[4]:
        header, models, chunks = parse(data)
        stored = sum(record.kind == STORED for record in chunks)
        found |= {"step": header.step or None, "chunks": len(chunks), "chunks_stored": stored}
        found |= {"model_bytes": sum(record.size for record in models.values()), "stream": header.streamed}
    return found


def _narrow(values: np.ndarray) -> np.ndarray:
    ends = int(values.min()), int(values.max())
    for width in (np.int8, np.int16, np.int32):
        if np.iinfo(width).min <= ends[0] and ends[1] <= np.iinfo(width).max:
            return values.astype(width)
    return values
