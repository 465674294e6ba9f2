"""Damaged containers as somebody makes them who knows the layout: edits, with every length and checksum made to fit."""

import struct
import zlib
from bisect import bisect
from itertools import accumulate
from random import Random

from density.checksum import crc32c
from density.container import END, HEAD_SIZE, HEADER, MAGIC, MARK, RECORD

_CHECK = struct.Struct("<I")
_LENGTH_AT, _PAYLOAD_AT, _DATA_AT = 16, 20, 24  # in the head of a record
_HEADER_FIELDS = (4, 5, 6, 7, 8, 9, 20, 27, 28, 30, 32, 34, 36, 38, 44, 52)
_RECORD_FIELDS = (3, 4, 6, 8, 12, 13, 15, 16, 17, 24)
_COUNTS = (0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 254, 255)


def repaired(data: bytes) -> bytes:
    """The same bytes with every length and checksum outside the payloads made to fit, as far as the layout allows."""
    b = bytearray(data)
    b[:4] = MAGIC
    if len(b) > 4:
        b[4] &= 1
    if len(b) >= HEADER.size + 4 and b[4] == 1:
        size = min(max(b[10] | b[11] << 8, HEADER.size + 4), len(b))
        struct.pack_into("<H", b, 10, size)
        at = size
        while at + HEAD_SIZE <= len(b):
            at += HEAD_SIZE + min(_CHECK.unpack_from(b, at + _LENGTH_AT)[0], len(b) - at - HEAD_SIZE)
        del b[at:]
        if not b[5] & 1:
            struct.pack_into("<Q", b, 12, len(b))
        seal = crc32c(bytes(b[: size - 4]))
        _CHECK.pack_into(b, size - 4, seal)
        at = size
        while at + HEAD_SIZE <= len(b):
            at = _repair_record(b, at, seal)
    elif len(b) >= 21 and b[4] == 0:
        _repair_v0(b)
    return bytes(b)


def _repair_record(b: bytearray, at: int, seal: int) -> int:
    """Length and checksums of the record at a place; returns where the next one begins."""
    begin = at + HEAD_SIZE
    length = min(_CHECK.unpack_from(b, at + _LENGTH_AT)[0], len(b) - begin)
    if b[at + 3] == END and length == 24:  # the end record says where it stands
        struct.pack_into("<Q", b, begin + 16, at)
    b[at : at + 3] = MARK
    struct.pack_into("<II", b, at + _LENGTH_AT, length, crc32c(bytes(b[begin : begin + length])))
    _CHECK.pack_into(b, at + RECORD.size, crc32c(bytes(b[at : at + RECORD.size]), seal))
    return begin + length


def _repair_v0(b: bytearray) -> None:
    size = struct.unpack_from("<I", b, 5)[0]
    struct.pack_into("<Q", b, 9, len(b))
    if not 21 <= size <= len(b):
        return
    try:
        spot = 17 + 2 + b[18]
        spot += 1 + 8 * b[spot]
        table, count = struct.unpack_from("<II", b, spot + 20)
        first, begin = spot + 28 + table, size
        for i in range(min(count, 99)):
            coded, raw, _, check = struct.unpack_from("<QQII", b, first + 24 * i)
            crc = zlib.crc32(bytes(b[begin : begin + coded + raw]))
            struct.pack_into("<QQII", b, first + 24 * i, coded, raw, crc, check)
            begin += coded + raw
    except (struct.error, IndexError):
        pass
    _CHECK.pack_into(b, size - 4, zlib.crc32(bytes(b[: size - 4])))


def forged(data: bytes, chunk: int, checksum: int) -> bytes:
    """A container of version 1 that claims this checksum for the decoded elements of a chunk."""
    b = bytearray(data)
    at = b[10] | b[11] << 8
    seal = _CHECK.unpack_from(b, at - 4)[0]
    while at + HEAD_SIZE <= len(b):
        if b[at + 3] in (2, 3) and _CHECK.unpack_from(b, at + 8)[0] == chunk:
            _CHECK.pack_into(b, at + _DATA_AT, checksum)
        at = _repair_record(b, at, seal)
    return bytes(b)


def records_of(data: bytes) -> list[tuple[int, int]]:
    """Begin and end of each record of a whole container of version 1; none of version 0."""
    if len(data) < HEADER.size or data[4] != 1:
        return []
    found, at = [], data[10] | data[11] << 8
    while at + HEAD_SIZE <= len(data):
        end = at + HEAD_SIZE + _CHECK.unpack_from(data, at + _LENGTH_AT)[0]
        found.append((at, end))
        at = end
    return found


class Mutator:
    """An endless row of mutants of some containers, small ones mostly, the same ones for the same seed.

    One in eight keeps its broken checksums. The others have one to three edits in one part, drawn at random: the
    header, the head of a record, a payload, the order of the records, or anywhere; then `repaired` makes the rest fit.
    """

    def __init__(self, kinds: list[bytes], seed: int) -> None:
        self._random = Random(seed)
        self._kinds = [(data, records_of(data)) for data in kinds]
        self._ends = list(accumulate(1 / (200 + len(data)) for data in kinds))

    def __call__(self) -> bytes:
        draw = self._random.random
        data, records = self._kinds[bisect(self._ends, draw() * self._ends[-1], 0, len(self._ends) - 1)]
        b = bytearray(data)
        part = draw()
        if part < 0.125:
            self._edit(b, 0, len(b))
            return bytes(b)
        if not records or part < 0.25:
            self._edit(b, 0, len(b))
        elif part < 0.35:
            self._set(b, 0, _HEADER_FIELDS, records[0][0])
        elif part < 0.5:
            at, _ = records[int(draw() * len(records))]
            self._set(b, at, _RECORD_FIELDS, len(b))
        elif part < 0.6:
            self._shuffle(b, data, records)
        else:
            at, end = records[int(draw() * len(records))]
            begin = at + HEAD_SIZE
            short = min(end, begin + 24) if draw() < 0.5 else end  # sizes and parameters stand at the front
            payload = b[begin:short]
            self._edit(payload, 0, len(payload))
            _CHECK.pack_into(b, at + _LENGTH_AT, len(payload) + end - short)
            b[begin:short] = payload
        return repaired(bytes(b))

    def _set(self, b: bytearray, base: int, fields: tuple[int, ...], limit: int) -> None:
        """Give one or two fields of a head another small, large or neighbouring value."""
        draw = self._random.random
        for _ in range(1 + (draw() < 0.3)):
            at = base + fields[int(draw() * len(fields))]
            if at < min(limit, len(b)):
                near = (b[at] + (1 if draw() < 0.5 else 255)) & 255
                b[at] = near if draw() < 0.4 else _COUNTS[int(draw() * len(_COUNTS))]

    def _shuffle(self, b: bytearray, data: bytes, records: list[tuple[int, int]]) -> None:
        """Drop, repeat or exchange a record, or take one of another container."""
        draw = self._random.random
        at, end = records[int(draw() * len(records))]
        kind = draw()
        if kind < 0.25:
            del b[at:end]
        elif kind < 0.5:
            b[end:end] = data[at:end]
        elif kind < 0.75:
            first, last = records[int(draw() * len(records))]
            b[at:end] = data[first:last]
        else:
            other, theirs = self._kinds[int(draw() * len(self._kinds))]
            if theirs:
                first, last = theirs[int(draw() * len(theirs))]
                b[at:end] = other[first:last]

    def _edit(self, b: bytearray, low: int, high: int) -> None:
        """One to three edits: a bit, a byte, a word, a cut, an insertion, a run of zeros or ones, a repetition."""
        draw, bits = self._random.random, self._random.getrandbits
        for _ in range(1 + int(3 * draw() * draw())):
            at = low + int(draw() * (high - low + 1))
            kind = int(draw() * 10)
            inside = min(at, len(b) - 1)
            if kind < 3 and b:
                b[inside] ^= 1 << bits(3)
            elif kind < 5 and b:
                b[inside] = bits(8)
            elif kind == 5:
                b[at : at + 4] = bits(32).to_bytes(4, "little")
            elif kind == 6:
                if draw() < 0.3:
                    del b[at:]
                else:
                    del b[at : at + 4]
            elif kind == 7:
                b[at:at] = bits(64).to_bytes(8, "little")[: 1 << bits(2)]
            elif kind == 8:
                b[at : at + 8] = b"\xff\0"[bits(1) :][:1] * 8
            else:
                b[at:at] = b[at : at + 8]
