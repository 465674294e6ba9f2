"""A table of log q in x: piecewise polynomials on an adaptive dyadic grid, each checked against the density itself.

Tabulating the logarithm keeps the relative error of the density small near its zeros, where a table of q is off by a
hundredth. The table covers the bulk of the mass. Where it does not reach the tolerance (kinks, zeros, ends of a
support) or does not reach at all (far tails), a cell is marked and the density is evaluated there by Horner's rule.
"""

from dataclasses import dataclass

import numpy as np

from .quantiles import free_quantile

TOLERANCE = 1e-8  # of log q, absolute
_BULK = 1e-4  # mass on either side that the table leaves to Horner's rule
_COLUMNS = 1024
_DEEPEST = 14  # halvings of a column
_MOST = 1 << 15  # cells; 1.5 MB
_DEGREE = 5
_NODES = (1 + np.cos(np.pi * (2 * np.arange(_DEGREE + 1) + 1) / (2 * _DEGREE + 2))) / 2
# The error of the interpolant is largest between the nodes and at the ends.
_CHECKS = np.unique(np.concatenate([(1 - np.cos(np.pi * np.arange(_DEGREE + 2) / (_DEGREE + 1))) / 2, [0.21, 0.79]]))
_SAFETY = 4.0


@dataclass(frozen=True)
class LogTable:
    """Rows of left end and polynomial, and what leads to them; see `density._kernels.look_up`.

    The first and the last of the columns, and of the rows, stand for what lies outside.
    """

    lo: float
    per_unit: float
    finest: int
    shift: np.ndarray
    base: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, lo: float, hi: float, pieces) -> "LogTable":
        """The table of the polynomials of equal columns of [lo, hi]: piece c holds those of 2^k cells, on [0, 1]."""
        outside = np.full((1, _DEGREE + 1), np.nan)
        pieces = [outside, *pieces, outside]
        level = np.array([len(p).bit_length() - 1 for p in pieces])
        finest = int(level.max())
        shift = np.int64(finest) - level
        sizes = 1 << level
        column = np.repeat(np.arange(len(pieces)), sizes)
        first = np.cumsum(sizes) - sizes
        left = (column << finest) + ((np.arange(sizes.sum()) - first[column]) << shift[column])
        # of x in cells of the finest width: scaling by powers of two changes no digit
        powers = np.ldexp(np.concatenate(pieces), -shift[column][:, None] * np.arange(_DEGREE + 1))
        per_unit = (len(pieces) - 2) / (hi - lo) * 2.0**finest
        rows = np.column_stack([left, powers])
        return cls(lo, per_unit, finest, shift, first - (np.arange(len(pieces)) << level), rows)

    def fill(self, x, out, *, exponentiate: bool) -> bool:
        """log q (or q) at x, both float32 or float64; whether some had no answer and are NaN."""
        from ._kernels import look_up

        values = np.empty(len(x)) if exponentiate and out.dtype != np.float64 else out
        total = look_up(x, self.lo, self.per_unit, self.finest, self.shift, self.base, self.rows, values)
        if exponentiate:
            np.exp(values, out=values)
        if values is not out:
            out[...] = values
        return bool(np.isnan(total))


def build(log_pdf, lo: float, hi: float) -> LogTable:
    """The table of the vectorised function `log_pdf` on [lo, hi].

    All columns are refined together: a cell whose interpolant is off by more than a quarter of the tolerance at any of
    the points between its nodes doubles the cells of its column, until the column passes or is as fine as it may be.
    """
    per_unit = _COLUMNS / (hi - lo)
    done: dict[int, np.ndarray] = {}
    open_, cells = np.arange(_COLUMNS), 0

    def sampled(points, start, parts):
        """log q at points of every cell, and where in the cell they are: rounded to doubles, far from 0 coarsely."""
        x = lo + (start[:, None] + points / parts) / per_unit
        return log_pdf(x.reshape(-1)).reshape(x.shape), ((x - lo) * per_unit - start[:, None]) * parts

    for level in range(_DEEPEST + 1):
        parts = 1 << level
        start = (open_[:, None] + np.arange(parts) / parts).reshape(-1)
        with np.errstate(all="ignore"):
            values, s = sampled(_NODES, start, parts)
            rows = _interpolate(s, values)
            truth, s = sampled(_CHECKS, start, parts)
            off = np.abs((s[:, :, None] ** np.arange(_DEGREE + 1) @ rows[:, :, None])[:, :, 0] - truth).max(axis=1)
        good = off <= TOLERANCE / _SAFETY  # NaN is not good
        rows[~good] = np.nan  # what stays NaN is left to Horner's rule
        bad = parts - good.reshape(len(open_), parts).sum(axis=1)
        # At a kink or a zero a few cells fail at every level, and always will.
        last = level == _DEEPEST or cells + 2 * parts * len(open_) > _MOST
        closed = (bad == 0) | last | ((parts >= 1024) & (bad <= 4))
        rows = rows.reshape(len(open_), parts, -1)
        for i in np.flatnonzero(closed):
            done[int(open_[i])] = rows[i]
        cells += parts * int(closed.sum())
        open_ = open_[~closed]
        if not len(open_):
            break
    return LogTable.of(lo, hi, [done[c] for c in range(_COLUMNS)])


def _interpolate(s, values):
    """Coefficients of the polynomials through (s, values), one a row; NaN where a value is not finite."""
    sound = np.isfinite(values).all(axis=1) & (np.sort(s, axis=1)[:, 1:] > np.sort(s, axis=1)[:, :-1]).all(axis=1)
    rows = np.full(values.shape, np.nan)
    powers = s[sound][:, :, None] ** np.arange(_DEGREE + 1)
    rows[sound] = np.linalg.solve(powers, values[sound][:, :, None])[:, :, 0]
    return rows


def table_of(p) -> LogTable:
    """The table of a FourierDensity over all but 2e-4 of its mass."""
    lo, hi = (float(v) for v in free_quantile(p, np.array([_BULK, 1 - _BULK])))
    return build(p._log_pdf, lo, hi)
