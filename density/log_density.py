"""log q at points: the polynomial by Horner's rule, the slope of the map, and the safety tail beside them."""

import numpy as np

from ._threads import thread_map

_PART = 1 << 16  # points that one thread evaluates at a time; a constant, so that no bit depends on the threads
_BLOCK = 1 << 14  # points whose intermediate arrays stay in cache
_LEAST = 1e-280  # of q in units of the tail's scale: below, what it consists of may have been lost


def evaluated(p, x, workers: int, *, exponentiate: bool):
    """log of the continuous part (or that part itself) at a flat float64 array."""
    out = np.empty_like(x)

    def one(at):
        log_pdf = log_density(p, x[at : at + _PART])
        out[at : at + _PART] = np.exp(log_pdf) if exponentiate else log_pdf

    thread_map(one, range(0, len(x), _PART), workers)
    return _shared(p, out, exponentiate)


def tabulated(p, x, workers: int, *, exponentiate: bool):
    """The same through the table, at a flat array of float32 or float64; in one go what it has no answer for."""
    out, table = np.empty_like(x), p._table

    def one(at):
        part = slice(at, at + _PART)
        missed = table.fill(x[part], out[part], exponentiate=exponentiate)
        return at + np.flatnonzero(np.isnan(out[part])) if missed else None

    missed = [m for m in thread_map(one, range(0, len(x), _PART), workers) if m is not None]
    out = _shared(p, out, exponentiate)
    if missed:
        where = np.concatenate(missed)
        out[where] = evaluated(p, x[where].astype(np.float64), workers, exponentiate=exponentiate)
    return out


def _shared(p, out, exponentiate: bool):
    if not len(p.atoms):
        return out
    share = 1 - p.atoms.mass
    return out * out.dtype.type(share) if exponentiate else out + out.dtype.type(np.log(share))


def log_density(p, x):
    """log q of a FourierDensity at a float64 array, its atoms left out.

    With ``B = 8 (K + 1) 2^-53 sum_k |a_k|`` the error of A (`density._kernels.horner`) the error of the logarithm is
    that of u = F(x), a few units in the last place, and at most ``2 B / |A(u)|`` to first order: 1e-13 where q is near
    its highest, more in a deep zero.
    """
    if x.size <= _BLOCK:
        return _log_density(p, x)
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    for at in range(0, len(flat), _BLOCK):
        part = slice(at, at + _BLOCK)
        out[part] = _log_density(p, flat[part])
    return out.reshape(x.shape)


def _log_density(p, x):
    tail = p.tail
    with np.errstate(all="ignore"):  # log 0 is -inf, and NaN stays NaN
        likelihood, slope = p._p(p.map.forward(x)), p.map.log_derivative(x)
        if tail.mass == 0:
            return np.log(likelihood) + slope
        # The sum itself, in units of the tail: two logarithms and an exponential cheaper than that of logarithms.
        unit = np.log(np.pi * tail.scale)
        z = (x - tail.loc) / tail.scale
        q = (1 - tail.mass) * likelihood * np.exp(slope + unit) + tail.mass / (1 + z * z)
        out = np.asarray(np.log(q) - unit)
        lost = ~((q > _LEAST) & (q < np.inf))
        if lost.any():
            fitted = np.log(likelihood[lost]) + slope[lost] + np.log1p(-tail.mass)
            out[lost] = np.logaddexp(fitted, tail.log_pdf(x[lost]))
    return out
