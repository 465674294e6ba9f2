"""A density as bytes and back: the same on every machine, and checked before anything in them is believed."""

import struct
import zlib

import numpy as np

from .atoms import Atoms
from .errors import ChecksumError, CorruptDataError, NotOurDataError, TruncatedDataError, UnknownVersionError
from .fourier import FourierDensity, Tail
from .maps import HALF, MAPS, Map
from .mixture_map import MixtureMap
from .report import FitReport, Status

_BASES = ("cosine", "periodic")
_MAGIC = b"TDEN"
_PLAIN, _ATOMIC = 0, 1  # versions: the second has atoms before the checksum, and is written only where there are any
_NO_DENSITY = "the numbers of the stored density are not those of a density"
_HEAD = struct.Struct("<4sBBBBI10d")
_COUNT = struct.Struct("<I")  # of the atoms, at the very end before the checksum, after values and masses
_MOST_ATOMS = 1 << 16


def to_bytes(p: FourierDensity) -> bytes:
    """Header, coefficients and checksum; see `FourierDensity.to_bytes`."""
    r, m, t = p.report, p.map, p.tail
    extra, loc, scale, shape = b"", 0.0, 1.0, 1.0
    if isinstance(m, MixtureMap):
        extra = np.array([m.weights, m.means, m.widths], dtype="<f8").tobytes()
    elif isinstance(m, Map):
        loc, scale, shape = m.loc, m.scale, m.shape
    else:
        raise TypeError(f"the map {m.describe()} is code, which has no bytes here; pickle the density instead")
    grid = np.nan if r.grid is None else r.grid
    version = _ATOMIC if len(p.atoms) else _PLAIN
    head = _HEAD.pack(
        _MAGIC, version, _BASES.index(p.basis), MAPS.index(m.kind), p.map_parameters, p.order,
        loc, scale, t.mass, t.loc, t.scale, r.n, r.gap_nats, grid, shape, len(extra) / 24,
    )  # fmt: skip
    wire = "<f8" if p.basis == "cosine" else "<c16"
    body = head + np.ascontiguousarray(p.coefficients, dtype=wire).tobytes() + extra
    if len(p.atoms):
        body += np.array([p.atoms.values, p.atoms.masses], dtype="<f8").tobytes() + _COUNT.pack(len(p.atoms))
    return body + struct.pack("<I", zlib.crc32(body))


def from_bytes(data: bytes) -> FourierDensity:
    """The density that `FourierDensity.to_bytes` stored.

    Parameters
    ----------
    data : the bytes.

    Raises
    ------
    CorruptDataError : one of its children says what is wrong with them.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> p = ds.fit(np.random.default_rng(7).normal(size=500), order=4, map="logistic")
    >>> ds.from_bytes(p.to_bytes()) == p
    True
    """
    try:
        data = memoryview(data).tobytes()
    except TypeError:
        raise TypeError(f"from_bytes takes bytes, not {type(data).__name__}; read a file in mode 'rb'") from None
    if data[:4] != _MAGIC[: len(data[:4])] or not data:
        raise NotOurDataError(f"not a stored density: it begins with {data[:4]!r}, not {_MAGIC!r}")
    if len(data) < _HEAD.size + 4:
        raise TruncatedDataError(f"{len(data)} bytes are too few for a stored density of at least {_HEAD.size + 12}")
    _, version, basis, kind, map_parameters, order, *numbers = _HEAD.unpack_from(data)
    if version not in (_PLAIN, _ATOMIC):
        raise UnknownVersionError(f"stored density of version {version}; this release reads versions 0 and 1")
    if basis >= len(_BASES) or kind >= len(MAPS):
        raise ChecksumError("the header of the stored density names an unknown basis or map")
    at = _HEAD.size + (order + 1) * (8 if basis == 0 else 16)
    components = int(numbers[-1]) if MAPS[kind] == "mixture" and 1 <= numbers[-1] <= 64 else 0
    ends = at + 24 * components
    count = _COUNT.unpack(data[-8:-4])[0] if version == _ATOMIC else 0
    expected = ends + 4 + (0 if version == _PLAIN else 4 + 16 * min(count, _MOST_ATOMS))
    if len(data) != expected:
        raise TruncatedDataError(f"a stored density of order {order} has {expected} bytes; got {len(data)}")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ChecksumError("the checksum of the stored density does not match: some byte was changed")
    wire, native = ("<f8", np.float64) if basis == 0 else ("<c16", np.complex128)
    a = np.frombuffer(data[_HEAD.size : at], dtype=wire).astype(native)
    loc, scale, mass, tail_loc, tail_scale, n, gap, grid, shape, _ = numbers
    if not (
        np.isfinite(a).all()
        and np.isfinite([loc, scale, mass, tail_loc, tail_scale, shape]).all()
        and (scale > 0 or (scale < 0 and MAPS[kind] in HALF))
        and shape > 0
        and tail_scale > 0
        and 0 <= mass < 1
        and abs(np.vdot(a, a).real - 1) < 1e-9
    ):
        raise CorruptDataError(_NO_DENSITY)
    m: Map | MixtureMap = Map(MAPS[kind], loc, scale, shape)
    if MAPS[kind] == "mixture":
        parts = np.frombuffer(data[at:ends], dtype="<f8").reshape(3, -1).astype(np.float64)
        weights, _, widths = parts
        if not (components and np.isfinite(parts).all() and (weights > 0).all() and (widths > 0).all()):
            raise CorruptDataError(_NO_DENSITY)
        m = MixtureMap(*(tuple(float(v) for v in row) for row in parts))
    atoms = Atoms()
    if version == _ATOMIC:
        values, masses = np.frombuffer(data[ends:-8], dtype="<f8").reshape(2, -1).astype(np.float64)
        if not (np.isfinite(values).all() and (np.diff(values) > 0).all() and (masses > 0).all() and masses.sum() < 1):
            raise CorruptDataError(_NO_DENSITY)
        atoms = Atoms(tuple(float(v) for v in values), tuple(float(m) for m in masses))
    status = Status.CERTIFIED if gap <= 1e-6 else Status.UNCERTIFIED
    report = FitReport(
        status, n, grid=None if np.isnan(grid) else grid, gap_nats=gap, atoms=tuple(zip(atoms.values, atoms.masses))
    )
    tail = Tail(mass, tail_loc, tail_scale)
    return FourierDensity(_BASES[basis], m, a, tail, map_parameters, report, atoms)
