"""A density as a table of a container: its coefficients rounded to integers, from which integers make the frequencies.

The coefficients are those of `frozen`, on the logistic map; a density on another map is developed anew on this one.
Forty bytes of coefficients can stand for a table of thousands of symbols.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .errors import CorruptDataError
from .frozen import COEFFICIENT_ONE, PRECISION, TAIL_ONE, FrozenDensity, freeze_density
from .integer_list import pack_integers, unpack_integers
from .rans import FrequencyTables
from .varint import read_varint, varint

FIRST_BYTE = 64  # above every shift, with which a table of counts begins
_MOST_ORDER = 128
_NODES = 4096
_FLOOR = 1e-3  # share of the uniform density that keeps the logarithm finite
_ORDERS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_WIDTHS = (1, 2, 4)  # of the logistic map, in those of the quartiles


@dataclass(frozen=True, eq=False)
class FourierTable:
    """One density of `frozen` whose bins are centred at integers, moved so that its zero lies at `centre`."""

    density: FrozenDensity
    centre: int

    @cached_property
    def tables(self) -> FrequencyTables:
        """The table for the coder; ValueError where a symbol passes 64 bits."""
        frequencies, first_values, raw_bits, _ = self.density.symbols()
        moved = first_values.astype(object) + self.centre
        if moved[0] < -(1 << 63) or moved[-1] >= 1 << 63:
            raise ValueError("symbols beyond 64 bits")
        return FrequencyTables(frequencies, moved.astype(np.int64), raw_bits, None, PRECISION)

    def to_bytes(self) -> bytes:
        """Centre, scale, tail and coefficients."""
        head = bytes([FIRST_BYTE])
        for number in (self.centre, int(self.density.ratios[0])):
            head += varint(_unsigned(number))
        a = self.density.coefficients[0].astype(np.int64)
        head += varint(self.density.tail) + varint(len(a) - 1)
        return head + pack_integers(np.array([_unsigned(int(c)) for c in a]))

    @classmethod
    def from_bytes(cls, data: bytes) -> "FourierTable":
        """The table that `to_bytes` stored."""
        at, numbers = 1, []
        for _ in range(4):
            number, at = read_varint(data, at)
            numbers.append(number)
        centre, ratio, tail, order = _signed(numbers[0]), _signed(numbers[1]), numbers[2], numbers[3]
        if not (-(1 << 63) <= centre < 1 << 63 and order <= _MOST_ORDER and 1 <= tail < TAIL_ONE):
            raise CorruptDataError("the density of the model has impossible numbers")
        codes = unpack_integers(data[at:], order + 1)
        a = np.where(codes & 1, -((codes >> 1) + 1), codes >> 1)
        if not (-25 << 16 <= ratio <= 6 << 16 and 0 < np.abs(a).max() <= COEFFICIENT_ONE and (codes >= 0).all()):
            raise CorruptDataError("the density of the model has impossible numbers")
        table = cls(FrozenDensity(a.astype(np.int32)[None], np.array([ratio], np.int32), tail), centre)
        try:
            _ = table.tables
        except ValueError as error:
            raise CorruptDataError(f"the density of the model gives no table: {error}") from None
        return table


def fourier_tables(model, step: float):
    """Tables that stand for a density in bins of `step`, from rough to fine; none where its scale leaves the range."""
    low, median, high = (float(q) for q in model.ppf(np.array([0.25, 0.5, 0.75])))
    spread = (high - low) / (2 * np.log(3.0))
    if not (0 < spread < np.inf and abs(median / step) < 2.0**53):
        return
    centre = round(median / step)
    u = (np.arange(_NODES) + 0.5) / _NODES
    for width in _WIDTHS:
        scale = width * spread
        if not 2.0**-7 < scale / step < 2.0**23:
            continue
        x = centre * step + scale * (np.log(u) - np.log1p(-u))
        p = np.maximum(np.asarray(model.pdf(x)), 0) * scale / (u * (1 - u))
        if not np.isfinite(p).all():
            continue
        a = _factor((1 - _FLOOR) * p + _FLOOR)
        for order in _ORDERS:
            try:
                yield FourierTable(freeze_density(a[None, : order + 1], [scale], [step], 1e-4), centre)
            except ValueError:
                break


def _factor(p) -> np.ndarray:
    """Coefficients a_k of the minimum-phase A with |A|^2 = p, given at the middles of the nodes of [0, 1].

    Kolmogorov: log A is the causal half of log p. The even extension of p has period 2.
    """
    from scipy.fft import dct

    log_series = np.asarray(dct(np.log(p), type=2)) / (2 * len(p))  # log p = r_0 + 2 sum r_k cos(k pi u)
    half = np.zeros(2 * len(p))
    half[: len(p)] = log_series
    half[0] *= 0.5
    return np.fft.ifft(np.exp(np.fft.fft(half))).real[: _MOST_ORDER + 1]


def _unsigned(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _signed(number: int) -> int:
    return -(number + 1) // 2 if number & 1 else number // 2
