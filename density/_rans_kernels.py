"""Kernels of the interleaved 64-bit rANS coder (Duda 2013, arXiv:1311.2540; Giesen 2014, arXiv:1402.3392).

A state x lives in [2^32, 2^64) and exchanges 32-bit words with the stream. Coding a symbol of frequency f and start c
out of M = 2^n is x -> (x // f) M + c + x % f; decoding is its inverse. Value i belongs to lane i % 4, and the lanes
share one stream of words, so that the machine always has four independent chains to work on. A short stream has one.

Layout: the states of the lanes, lower word first, then the words in the order in which the decoder wants them. A lone
lane starts at 2^n instead of 2^32, so that it wastes few bits: nothing is written before its state has reached 2^32,
and nothing is read once the words are used up. If its state never got there, the stream is its lower word alone. From
a start of 2^n or more every symbol leads away, so that a stream read for too many values does not seem whole.

A symbol stands in a column of three words, `rows[0] = start | frequency << 25 | kind << 50`, `rows[1]` = the first
value that it covers, `rows[2] = (2^64 - 1) // frequency`; what follows the last symbol of a table has start = 2^n.
`kind` is the number of raw offset bits that follow the symbol (0..64), or ESCAPE. A table stands in `shape[t]`, see
`SHAPE`.

Both coders take four values at a time where none of them has raw bits, the states staying in registers. Indices are
unsigned, because a signed one would be tested for being counted from the end.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import kernel

ESCAPE = 255  # raw_bits of the symbol behind which a whole value follows in Exp-Golomb form
OK, TRUNCATED, TRAILING, FINAL_STATE, CORRUPT = range(5)  # what `decode` returns; the sentences stand in rans.py
SHAPE = ("first row", "symbols, the escape left out", "has an escape", "first symbol of the run", "symbols in the run")
SHAPE += ("first value of the run", "raw bits of each symbol in the run")  # a run: equal, gapless, found without search

_LOW = np.uint64(1 << 32)  # states are at least this
_FIELD = np.uint64((1 << 25) - 1)  # holds 2^24 itself: a table of one symbol
_WORD = np.uint64((1 << 32) - 1)
_ONES = np.uint64((1 << 64) - 1)
_SIGN = np.uint64(1 << 63)
_U0, _U1, _U7, _U25, _U32, _U50, _U63, _U64 = (np.uint64(i) for i in (0, 1, 7, 25, 32, 50, 63, 64))
_U2, _U3, _U4 = (np.uint64(i) for i in (2, 3, 4))


@intrinsic
def _high_product(typingctx, a, b):
    """Upper 64 of the 128 bits of a product."""

    def emit(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


@kernel
def prepare(frequencies, bases, raw_bits, offsets, precision, bits, rows, shape, coarse):
    """Fill `rows`, `shape` and the look-up `coarse[t << bits | slot >> (precision - bits)]` = the first row to try.

    Returns (fault, table, symbol): 0 none, 1 a frequency of 0, 2 a wrong sum, 3 values out of order or overlapping,
    4 raw_bits over 64, 5 an escape that is not the last symbol. O(symbols + tables 2^bits).
    """
    total = np.int64(1) << precision
    row = 0
    for t in range(offsets.size - 1):
        begin, end = offsets[t], offsets[t + 1]
        start = np.int64(0)
        run = best = best_begin = np.int64(0)
        escape = end > begin and raw_bits[end - 1] == ESCAPE
        shape[t, 0], shape[t, 1], shape[t, 2] = row, end - begin - escape, escape
        for s in range(begin, end):
            f, k = np.int64(frequencies[s]), np.int64(raw_bits[s])
            if f <= 0:
                return 1, t, s
            if f > total - start:
                return 2, t, s
            if k > 64:
                if k != ESCAPE:
                    return 4, t, s
                if s != end - 1:
                    return 5, t, s
            else:
                room = _ONES - (np.uint64(bases[s]) ^ _SIGN)  # how far 2^63 - 1 is
                if (k == 64 and room != _ONES) or (k < 64 and (_U1 << np.uint64(k)) - _U1 > room):
                    return 3, t, s
            if s > begin and k != ESCAPE:
                gap = np.uint64(bases[s]) - np.uint64(bases[s - 1])
                before = np.int64(raw_bits[s - 1])
                if bases[s] <= bases[s - 1] or before >= 64 or (gap >> np.uint64(before)) == _U0:
                    return 3, t, s
                run = run + 1 if before == k and gap == (_U1 << np.uint64(k)) else np.int64(1)
            else:
                run = np.int64(1)
            if k < 64 and run > best:
                best, best_begin = run, s - run + 1
            rows[0, row] = np.uint64(start) | (np.uint64(f) << _U25) | (np.uint64(k) << _U50)
            rows[1, row] = np.uint64(bases[s])
            rows[2, row] = _ONES // np.uint64(f)
            row += 1
            start += f
        if start != total:
            return 2, t, end - 1
        rows[0, row], rows[1, row], rows[2, row] = np.uint64(total), _U0, _U0
        row += 1
        shape[t, 3], shape[t, 4] = best_begin - begin, best
        shape[t, 5], shape[t, 6] = (bases[best_begin], np.int64(raw_bits[best_begin])) if best > 0 else (0, 0)
        s = shape[t, 0]
        for j in range(np.int64(1) << bits):
            slot = np.uint64(j) << np.uint64(precision - bits)
            while rows[0, s + 1] & _FIELD <= slot:
                s += 1
            coarse[(t << bits) + j] = s
    return 0, 0, 0


@kernel(forceinline=True)
def _append(x, value, bits):
    """State after 1..32 raw bits, and whether its lower word has to be written before."""
    large = x >> (_U64 - bits) != _U0
    x = x >> _U32 if large else x
    return (x << bits) | value, np.uint64(large)


@kernel(forceinline=True)
def _push(x, entry, inverse, n):
    """State after a symbol, and whether its lower word has to be written before."""
    f = (entry >> _U25) & _FIELD
    large = (x >> (_U64 - n)) >= f
    x = x >> _U32 if large else x
    quotient = _high_product(x, inverse)  # pyright: ignore[reportCallIssue]
    # at most one too small: x (2^64 / f - inverse) / 2^64 < 1
    rest = x - quotient * f
    over = rest >= f
    quotient += np.uint64(over)
    rest = rest - f if over else rest
    return (quotient << n) + (entry & _FIELD) + rest, np.uint64(large)


@kernel
def encode(values, contexts, rows, shape, precision, alone, words):
    """Fill `words` from its end; returns (first word in use, -1 or the index of a value without a symbol).

    `contexts` names the table of each value, or is empty: table 0. `alone` is None for four lanes, else one. `words`
    must hold 4 entries a value (1 where no symbol has raw bits) and 9 more. A word is written always and kept only if
    the state is too large: no branch to mispredict.
    Floor: two multiplications and two look-ups a value, of which four chains overlap.
    """
    n = np.uint64(precision)
    entries, firsts, inverses = rows[0], rows[1], rows[2]
    p = np.uint64(words.size)
    several = contexts.size > 0
    x = y1 = y2 = y3 = _U1 << n if alone is not None else _LOW  # x: the lane at work; the others follow in turn
    t = np.int64(0)
    first, count = np.uint64(shape[0, 0] + shape[0, 3]), np.uint64(shape[0, 4])
    base, step = np.uint64(shape[0, 5]), np.uint64(shape[0, 6])
    by_four = alone is None and not several and step == _U0
    i = values.size - 1
    while i >= 0:
        if by_four and i & 3 == 3:  # lanes 0 to 3 are x, y1, y2, y3
            r3, r2 = np.uint64(values[i]) - base, np.uint64(values[i - 1]) - base
            r1, r0 = np.uint64(values[i - 2]) - base, np.uint64(values[i - 3]) - base
            if (r3 < count) & (r2 < count) & (r1 < count) & (r0 < count):
                words[p - _U1] = y3 & _WORD
                y3, wrote = _push(y3, entries[first + r3], inverses[first + r3], n)
                p -= wrote
                words[p - _U1] = y2 & _WORD
                y2, wrote = _push(y2, entries[first + r2], inverses[first + r2], n)
                p -= wrote
                words[p - _U1] = y1 & _WORD
                y1, wrote = _push(y1, entries[first + r1], inverses[first + r1], n)
                p -= wrote
                words[p - _U1] = x & _WORD
                x, wrote = _push(x, entries[first + r0], inverses[first + r0], n)
                p -= wrote
                i -= 4
                continue
        if alone is None:
            x, y1, y2, y3 = y3, x, y1, y2
        if several:
            t = np.int64(contexts[i])
            first, count = np.uint64(shape[t, 0] + shape[t, 3]), np.uint64(shape[t, 4])
            base, step = np.uint64(shape[t, 5]), np.uint64(shape[t, 6])
        value = np.uint64(values[i])
        run = (value - base) >> step
        r = first + run
        if run >= count:
            low = np.uint64(shape[t, 0])
            high = end = low + np.uint64(shape[t, 1])  # the last first-value <= value lies in [low, high) if any does
            while high - low > _U1:
                middle = (low + high) >> _U1
                if np.int64(firsts[middle]) <= np.int64(value):
                    low = middle
                else:
                    high = middle
            r = end  # the escape
            if low < end and np.int64(firsts[low]) <= np.int64(value):
                kind = entries[low] >> _U50
                if kind >= _U64 or (value - firsts[low]) >> kind == _U0:
                    r = low
            if r == end and shape[t, 2] == 0:
                return np.int64(p), i
        entry = entries[r]
        kind = entry >> _U50
        if kind != _U0:
            length = _U0
            bits, offset = kind, value - firsts[r]
            if kind == np.uint64(ESCAPE):  # zigzag; its bit length in seven bits, then the bits below the leading one
                whole = (value << _U1) ^ (_U0 - (value >> _U63))
                while length < _U64 and whole >> length != _U0:
                    length += _U1
                bits = length - _U1 if length > _U1 else _U0
                offset = whole & ((_U1 << bits) - _U1)
            if bits > _U32:  # the decoder meets the upper part first
                words[p - _U1] = x & _WORD
                x, wrote = _append(x, offset & _WORD, _U32)
                p -= wrote
                offset >>= _U32
                bits -= _U32
            if bits > _U0:
                words[p - _U1] = x & _WORD
                x, wrote = _append(x, offset, bits)
                p -= wrote
            if kind == np.uint64(ESCAPE):
                words[p - _U1] = x & _WORD
                x, wrote = _append(x, length, _U7)
                p -= wrote
        words[p - _U1] = x & _WORD
        x, wrote = _push(x, entry, inverses[r], n)
        p -= wrote
        i -= 1
    if alone is not None:
        if x >= _LOW:
            p -= _U1
            words[p] = x >> _U32
        p -= _U1
        words[p] = x & _WORD
        return np.int64(p), -1
    for state in (y3, y2, y1, x):  # x has coded value 0: it is lane 0
        p -= _U2
        words[p], words[p + _U1] = state & _WORD, state >> _U32
    return np.int64(p), -1


@kernel(forceinline=True)
def _refill(x, word, more):
    """State after a read, and how many words it took; `word` is the next one, `more` says that it may be taken."""
    small = (x < _LOW) & more
    return (x << _U32) | np.uint64(word) if small else x, np.uint64(small)


@kernel(forceinline=True)
def _symbol(slot, begin, shift, coarse, entries):
    """Row of the symbol that holds a slot, and its first word."""
    r = np.uint64(coarse[begin + (slot >> shift)])
    entry = entries[r]
    while slot - (entry & _FIELD) >= (entry >> _U25) & _FIELD:  # ends: a slot lies inside its table
        r += _U1
        entry = entries[r]
    return r, entry


@kernel(forceinline=True)
def _pop(x, entry, slot, n):
    """State before a symbol, not yet refilled."""
    return ((entry >> _U25) & _FIELD) * (x >> n) + slot - (entry & _FIELD)


@kernel
def decode(words, contexts, rows, shape, coarse, bits, precision, alone, out):
    """Fill `out`; returns a status.

    No word outside `words` is read and nothing but `out` is written, whatever the words hold: four values at a time
    while four words are left, then positions are cut at the last word, and a reader that wanted more is told at the
    end. Rows stay inside their table because a slot does.
    Floor: one multiplication, two dependent look-ups and about 24 operations a value, of which four chains overlap.
    """
    n, shift, width = np.uint64(precision), np.uint64(precision - bits), np.uint64(bits)
    mask = (_U1 << n) - _U1
    entries, firsts = rows[0], rows[1]
    size = np.uint64(words.size)
    several = contexts.size > 0
    if size < np.uint64(8 if alone is None else 1):
        return TRUNCATED
    last = size - _U1
    x = np.uint64(words[0]) | (np.uint64(words[min(_U1, last)]) << _U32 if last > _U0 else _U0)
    y1 = y2 = y3 = x
    p = min(_U2, size)
    if alone is None:
        y1 = np.uint64(words[2]) | (np.uint64(words[3]) << _U32)
        y2 = np.uint64(words[4]) | (np.uint64(words[5]) << _U32)
        y3 = np.uint64(words[6]) | (np.uint64(words[7]) << _U32)
        p = np.uint64(8)
    if size > _U1 and (x < _LOW or y1 < _LOW or y2 < _LOW or y3 < _LOW):
        return CORRUPT
    begin, count, i = _U0, np.uint64(out.size), _U0
    b0 = b1 = b2 = b3 = _U0
    while i < count:
        if alone is None and i & _U3 == _U0 and i + _U4 <= count and p + _U4 <= size:  # lanes 0 to 3: x, y1, y2, y3
            if several:
                b0, b1 = np.uint64(contexts[i]) << width, np.uint64(contexts[i + _U1]) << width
                b2, b3 = np.uint64(contexts[i + _U2]) << width, np.uint64(contexts[i + _U3]) << width
            s0, s1, s2, s3 = x & mask, y1 & mask, y2 & mask, y3 & mask
            r0, e0 = _symbol(s0, b0, shift, coarse, entries)
            r1, e1 = _symbol(s1, b1, shift, coarse, entries)
            r2, e2 = _symbol(s2, b2, shift, coarse, entries)
            r3, e3 = _symbol(s3, b3, shift, coarse, entries)
            if (e0 | e1 | e2 | e3) >> _U50 == _U0:
                x, took = _refill(_pop(x, e0, s0, n), words[p], True)
                p += took
                y1, took = _refill(_pop(y1, e1, s1, n), words[p], True)
                p += took
                y2, took = _refill(_pop(y2, e2, s2, n), words[p], True)
                p += took
                y3, took = _refill(_pop(y3, e3, s3, n), words[p], True)
                p += took
                out[i], out[i + _U1] = firsts[r0], firsts[r1]
                out[i + _U2], out[i + _U3] = firsts[r2], firsts[r3]
                i += _U4
                continue
        if several:
            begin = np.uint64(contexts[i]) << width
        slot = x & mask
        r, entry = _symbol(slot, begin, shift, coarse, entries)
        value = firsts[r]
        x, took = _refill(_pop(x, entry, slot, n), words[min(p, last)], (alone is None) | (p < size))
        p += took
        kind = entry >> _U50
        if kind != _U0:
            left = kind
            if kind == np.uint64(ESCAPE):
                length = x & np.uint64(127)
                x, took = _refill(x >> _U7, words[min(p, last)], (alone is None) | (p < size))
                p += took
                if length > _U64:
                    return CORRUPT
                left = length - _U1 if length > _U1 else _U0
                value = _U1 << left if length > _U0 else _U0
            upper = _U0
            if left > _U32:
                left -= _U32
                upper = (x & ((_U1 << left) - _U1)) << _U32
                x, took = _refill(x >> left, words[min(p, last)], (alone is None) | (p < size))
                p += took
                left = _U32
            value += upper + (x & ((_U1 << left) - _U1))
            x, took = _refill(x >> left, words[min(p, last)], (alone is None) | (p < size))
            p += took
            if kind == np.uint64(ESCAPE):
                value = (value >> _U1) ^ (_U0 - (value & _U1))
        out[i] = value
        i += _U1
        if alone is None:
            x, y1, y2, y3 = y1, y2, y3, x
    if p > size:
        return TRUNCATED
    if p < size:
        return TRAILING
    if alone is not None:
        return OK if x == _U1 << n else FINAL_STATE
    return OK if x == _LOW and y1 == _LOW and y2 == _LOW and y3 == _LOW else FINAL_STATE


@kernel
def decode_stack(words, ends, out):
    """Symbols of a stack of words as container version 0 has them, the last word first; returns a status.

    One lane; ends[s] is the sum of the frequencies of symbols 0 .. s, 2^24 at last. The stack began as the state 2^32.
    """
    top = words.size
    if top < 2:
        return TRUNCATED
    top -= 2
    x = (np.uint64(words[top + 1]) << _U32) | np.uint64(words[top])
    if x < _LOW:
        return CORRUPT
    n = np.uint64(24)
    mask = (_U1 << n) - _U1
    for i in range(out.size):
        slot = np.int64(x & mask)
        low, high = np.int64(0), np.int64(ends.size - 1)
        while low < high:
            middle = (low + high) >> 1
            if ends[middle] > slot:
                high = middle
            else:
                low = middle + 1
        start = ends[low - 1] if low > 0 else np.int64(0)
        x = np.uint64(ends[low] - start) * (x >> n) + np.uint64(slot - start)
        if x < _LOW:
            if top == 0:
                return TRUNCATED
            top -= 1
            x = (x << _U32) | np.uint64(words[top])
        out[i] = low
    if top > 0:
        return TRAILING
    return OK if x == _LOW else FINAL_STATE
