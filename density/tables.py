"""Integer probability tables: from counts to frequencies of sum 2^24, by integer operations alone.

Cells of 2^shift values in the middle, buckets that grow with the distance on either side, special values, and an escape
for everything else, so that a table codes any integer. Its counts are stored as rounded square roots: the root of a
Poisson count has the same variance everywhere, so neighbours differ by one or two, and the rounding costs about a
quarter of a bit a symbol, once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .errors import CorruptDataError
from .integer_list import pack_integers, unpack_integers
from .integers import KINDS, SPECIAL
from .rans import ESCAPE, MAX_PRECISION, FrequencyTables, integer_frequencies
from .varint import read_varint, varint

MOST_CELLS = 1 << 16
_MOST_BUCKETS = 8 * 64
_FINEST = 3  # bits of mantissa that a bucket may resolve: eight buckets an octave
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1
_ESCAPE_BITS = 8 + 64 + 20.0  # about what an escape costs that is worth a symbol
_TAILS = (0.0, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 0.1, 1.0)  # shares that may go to the buckets
_ROOT_BITS, _GAP_BITS = 2.5, 3.0  # estimated cost of storing a root, and of a gap besides its logarithm


@dataclass(frozen=True, eq=False)
class Table:
    """Cells c 2^shift, ..., (c + 1) 2^shift - 1 for c in `cells`, buckets beyond them, specials, the escape.

    cells : sorted, >= 1 of them unless there are no plain values;  shift : log2 of the values in a cell;
    fine : log2 of the buckets in an octave;  below, above : number of buckets on each side;
    specials : which of SPECIAL + 0 .. 4 have a symbol, ascending;
    roots : square roots of the counts in the order cells, below and above (the nearest first), specials, escape.
    """

    cells: np.ndarray
    shift: int
    fine: int
    below: int
    above: int
    specials: tuple[int, ...]
    roots: np.ndarray

    @cached_property
    def tables(self) -> FrequencyTables:
        """The table for the coder; ValueError where its symbols overlap."""
        first = [int(c) << self.shift for c in self.cells]
        raw = [self.shift] * len(first)
        lower, upper = self._edges()
        down = [(a << self.shift, bits) for a, bits in lower]
        up = [(a << self.shift, bits) for a, bits in upper]
        order = [*range(len(first) + self.below - 1, len(first) - 1, -1), *range(len(first))]
        order += range(len(first) + self.below, len(self.roots))
        values = [a for a, _ in reversed(down)] + first + [a for a, _ in up] + [SPECIAL + s for s in self.specials]
        bits = [b + self.shift for _, b in reversed(down)] + raw + [b + self.shift for _, b in up]
        bits += [0] * len(self.specials) + [ESCAPE]
        if values and not (min(values) >= _LOWEST and max(values) <= _HIGHEST):
            raise ValueError("symbols beyond 64 bits")
        squares = np.square(self.roots)
        frequencies = integer_frequencies(squares if squares.any() else squares + 1)
        return FrequencyTables(frequencies[order], np.array([*values, 0], np.int64), np.array(bits))

    def _edges(self):
        """First cell and log2 of the cells of each bucket, below and above, the nearest first."""
        if not len(self.cells):
            return [], []
        low, high = int(self.cells[0]), int(self.cells[-1])
        near = buckets(self.fine, max(self.below, self.above))
        lower = [(low - start - (1 << bits) + 1, bits) for start, bits in near[: self.below]]
        return lower, [(high + start, bits) for start, bits in near[: self.above]]

    def to_bytes(self) -> bytes:
        """Cells, buckets and roots; about 2.5 bits a symbol."""
        span = int(self.cells[-1]) - int(self.cells[0]) + 1 if len(self.cells) else 0
        dense = span == len(self.cells)
        gaps = b"" if dense else pack_integers(np.diff(self.cells) - 1)  # modulo 2^64
        mask = sum(1 << s for s in self.specials)
        plain, bent = (pack_integers(_zigzag(self.roots - guess)) for guess in (_last(self.roots), _bend(self.roots)))
        roots = min(plain, bent, key=len)
        head = bytes([self.shift, self.fine | (roots is bent) << 6 | dense << 7, mask])
        low = int(self.cells[0]) if len(self.cells) else 0
        for number in (2 * low if low >= 0 else -2 * low - 1, len(self.cells), self.below, self.above, len(gaps)):
            head += varint(number)
        return head + gaps + roots

    @classmethod
    def from_bytes(cls, data: bytes) -> "Table":
        """The table that `to_bytes` stored."""
        if len(data) < 3:
            raise CorruptDataError("the table of the model ends too early")
        shift, flags, mask = data[:3]
        at, numbers = 3, []
        for _ in range(5):
            number, at = read_varint(data, at)
            numbers.append(number)
        low, count, below, above, size = numbers
        low = -(low + 1) // 2 if low & 1 else low // 2
        fine, bent, dense = flags & 63, flags >> 6 & 1, flags >> 7
        specials = tuple(s for s in range(8) if mask >> s & 1)
        symbols = count + below + above + len(specials) + 1
        if (
            shift > 63 or fine > _FINEST or mask >> KINDS or count > 2 * MOST_CELLS or at + size > len(data)
            or max(below, above) > _MOST_BUCKETS or (not count and below + above) or symbols > 64 * len(data)
        ):  # fmt: skip
            raise CorruptDataError("the table of the model has impossible sizes")
        gaps = unpack_integers(data[at : at + size], 0 if dense else max(count - 1, 0))
        steps = unpack_integers(data[at + size :], symbols)
        steps = np.where(steps & 1, -((steps >> 1) + 1), steps >> 1)
        roots = _unbend(steps) if bent else np.cumsum(steps)
        if (roots < 0).any() or (roots >= 1 << 31).any() or not roots.any():
            raise CorruptDataError("the table of the model holds impossible numbers")
        if dense:
            present = np.arange(count)
        else:
            present = np.concatenate([np.zeros(min(count, 1), np.int64), np.cumsum(gaps + 1)])
        if not _LOWEST >> shift <= low <= _HIGHEST >> shift:
            raise CorruptDataError("the table of the model holds impossible numbers")
        with np.errstate(over="ignore"):
            cells = np.int64(low) + present
        if (cells[1:] <= cells[:-1]).any():
            raise CorruptDataError("the table of the model holds impossible numbers")
        table = cls(cells, shift, fine, below, above, specials, roots)
        try:
            _ = table.tables
        except (ValueError, OverflowError) as error:
            raise CorruptDataError(f"the table of the model is none: {error}") from None
        return table


def buckets(fine: int, count: int) -> list[tuple[int, int]]:
    """First distance >= 1 and log2 of the width of the first `count` buckets, 2^fine an octave."""
    found = []
    octave = 0
    while len(found) < count:
        bits = max(octave - fine, 0)
        found += [(start, bits) for start in range(1 << octave, 2 << octave, 1 << bits)]
        octave += 1
    return found[:count]


def choose(values, counts, special_counts=(0,) * KINDS) -> Table:
    """The table of lowest estimated size for distinct int64 `values`, sorted, that occur (or are expected) so often.

    Ends of the cells, their width and the fineness of the buckets are tried on grids, from prefix sums:
    O(n + trials (n / cell + log n)).
    """
    special_counts = np.asarray(special_counts, np.float64)
    specials = tuple(int(s) for s in np.flatnonzero(special_counts))
    counts = np.asarray(counts, np.float64)
    n = float(counts.sum() + special_counts.sum())
    if not len(values):
        roots = _roots(np.concatenate([special_counts[list(specials)], [0.0]]))
        return Table(np.zeros(0, np.int64), 0, 0, 0, 0, specials, np.maximum(roots, len(specials) == 0))
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    lowest, best = np.inf, None
    for shift in _shifts(values, cumulative):
        cells, cell_counts = _cells(values, counts, shift)
        ends = np.cumsum(cell_counts)
        logs = np.concatenate([[0.0], np.cumsum(cell_counts * np.log2(n / cell_counts))])
        gaps = np.diff(cells.view(np.uint64)).astype(np.float64)
        gap_bits = np.concatenate([[0.0], np.cumsum(np.log2(gaps) + _GAP_BITS)])
        tried = set()
        for tail in _TAILS:
            a = min(int(np.searchsorted(ends, ends[-1] * tail / 2, side="right")), len(cells) - 1)
            b = max(a, min(int(np.searchsorted(ends, ends[-1] * (1 - tail / 2), side="left")), len(cells) - 1))
            if b - a >= MOST_CELLS or (a, b) in tried:
                continue
            tried.add((a, b))
            span = int(cells[b]) - int(cells[a]) + 1
            inside = ends[b] - (ends[a - 1] if a else 0.0)
            stored = _ROOT_BITS * (b - a + 1) + gap_bits[b] - gap_bits[a]
            if span <= 2 * MOST_CELLS:
                stored = min(stored, _ROOT_BITS * span)
            bits = logs[b + 1] - logs[a] + shift * inside + stored
            for fine in range(_FINEST + 1):
                sides = _sides(values, cumulative, int(cells[a]), int(cells[b]), shift, fine)
                beyond = ends[-1] - inside - sum(c.sum() for c, _ in sides)
                total = bits + sum(_bucket_bits(c, w, n, shift) for c, w in sides) + _ESCAPE_BITS * max(beyond, 0.0)
                if total < lowest:
                    lowest, best = total, (cells[a : b + 1], cell_counts[a : b + 1], shift, fine, sides)
                if not sum(c.sum() for c, _ in sides):
                    break
    cells, cell_counts, shift, fine, ((lower, _), (upper, _)) = best  # type: ignore[misc]  # tail = 1 leaves one cell
    if _dense(span := int(cells[-1]) - int(cells[0]) + 1, np.diff(cells)):
        # No gaps to store, and a run without gaps for the coder; a cell without a count has frequency 1.
        full = np.zeros(span)
        full[cells - cells[0]] = cell_counts
        cells, cell_counts = cells[0] + np.arange(span), full
    lower, upper = np.trim_zeros(lower, "b"), np.trim_zeros(upper, "b")
    covered = cell_counts.sum() + lower.sum() + upper.sum()
    rest = max(0.0, float(counts.sum() - covered))
    found = _roots(np.concatenate([cell_counts, lower, upper, special_counts[list(specials)], [rest]]))
    return Table(cells, shift, fine, len(lower), len(upper), specials, found)


def cost(tables: FrequencyTables, values, counts) -> float:
    """Bits that a table spends on `values` occurring `counts` times."""
    first, raw = tables.first_values[:-1], tables.raw_bits[:-1]  # type: ignore[index]
    at = np.searchsorted(first, values, side="right") - 1
    near = np.maximum(at, 0)
    width = np.minimum(raw[near], 63).astype(np.uint64) if len(first) else np.zeros(len(values), np.uint64)
    place = values.view(np.uint64) - first[near].view(np.uint64) if len(first) else np.zeros(len(values), np.uint64)
    inside = (at >= 0) & (place >> width == 0) if len(first) else np.zeros(len(values), bool)
    bits = MAX_PRECISION - np.log2(tables.frequencies)
    whole = 8 + np.log2(np.maximum(np.abs(values.astype(np.float64)), 1))
    each = bits[-1] + whole
    if len(first):
        each = np.where(inside, bits[near] + width, each)
    return float(each @ counts)


def _shifts(values, cumulative):
    """Cell widths worth trying: single values, and 2^4 to 2^16 cells over the middle 99.9 % of the mass.

    Where a value occurs 16 times on average, its share is known well enough: cells of several could save nothing.
    """
    total = cumulative[-1]
    if total >= 16 * len(values):
        return [0]
    a = int(np.searchsorted(cumulative[1:], total * 0.0005))
    b = int(np.searchsorted(cumulative[1:], total * 0.9995))
    span = int(values[min(b, len(values) - 1)]) - int(values[a]) + 1
    return sorted({0, *(max(0, span.bit_length() - bits) for bits in range(4, 17))})


def _cells(values, counts, shift: int):
    if not shift:
        return values, counts
    cells = values >> shift
    first = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    return cells[first], np.add.reduceat(counts, first)


def _sides(values, cumulative, low: int, high: int, shift: int, fine: int):
    """Counts and log2 widths of the buckets below and above, as far as they stay within 64 bits, off the specials."""
    found = []
    reach = (low - (int(values[0]) >> shift), (int(values[-1]) >> shift) - high)
    for far, sign in zip(reach, (-1, 1)):
        edges, widths = [0], []
        start, octave = 1, 0
        while far >= start:
            bits = max(octave - fine, 0)
            end = start + (1 << bits)
            edge = (low - end + 1) << shift if sign < 0 else (high + end) << shift
            if not _LOWEST <= edge <= (SPECIAL if sign > 0 and _HIGHEST > SPECIAL > int(values[-1]) else _HIGHEST):
                break
            edges.append(edge)
            widths.append(bits)
            start = end
            octave += start >> (octave + 1)
        edges[0] = (low if sign < 0 else high + 1) << shift
        at = np.searchsorted(values, np.array([min(e, _HIGHEST) for e in edges], np.int64))
        found.append((sign * np.diff(cumulative[at]), np.array(widths, np.int64)))
    return found


def _bucket_bits(counts, widths, n: float, shift: int) -> float:
    used = counts > 0
    c = counts[used]
    return float(c @ (np.log2(n / c) + widths[used] + shift)) + _ROOT_BITS * len(counts)


def _dense(span: int, gaps) -> bool:
    if span > 2 * MOST_CELLS:
        return False
    return bool(_ROOT_BITS * span <= _ROOT_BITS * (len(gaps) + 1) + np.sum(np.log2(gaps) + _GAP_BITS))


def _roots(counts):
    """Rounded square roots, at least 1 where there is anything."""
    return np.maximum(np.rint(np.sqrt(counts)), counts > 0).astype(np.int64)


def _zigzag(d):
    """Unsigned numbers for signed ones: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    return np.where(d < 0, -2 * d - 1, 2 * d)


def _last(roots):
    """Each root guessed to be the one before it."""
    return np.concatenate([[0], roots[:-1]])


def _bend(roots):
    """Each root r_i guessed as r_{i-1} + (r_{i-1} - r_{i-3}) / 2: the slope over two, which halves the noise of it."""
    before = np.concatenate([[0, 0, 0], roots])
    return before[2:-1] + ((before[2:-1] - before[:-3]) >> 1)


def _unbend(steps):
    """The roots of which these are the differences to `_bend`."""
    roots = [0, 0, 0]
    for step in steps.tolist():
        root = step + roots[-1] + ((roots[-1] - roots[-3]) >> 1)
        if not 0 <= root < 1 << 31:  # roots of a forged table may grow without end
            raise CorruptDataError("the table of the model holds impossible numbers")
        roots.append(root)
    return np.array(roots[3:])
