"""density: the entropy coder, the container and the checksum beside constriction, zlib, lzma, zstandard and PNG.

    python -m benchmarks.bench_density_coder [1000000]     the table of the manual, page Compress

The error of a coder is what it spends above the cross-entropy of its table, as a fraction.
"""

import importlib.util
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from density import compress, compress_tensors, decompress, decompress_tensors, gallery
from density.checksum import crc32c
from density.rans import FrequencyTables, decode_chunks, encode_chunks, integer_frequencies

SEED = 20266
DECODE, ENCODE = "decode", "encode"


def coder_race(job: str, count: int, scale: float, threads: int) -> Race:
    """Laplace integers with one 24-bit table; constriction has no threads."""
    rng = np.random.default_rng(SEED)
    values = np.rint(rng.laplace(size=count) * scale).astype(np.int64)
    low = values.min()
    weights = np.bincount(values - low)
    frequencies = integer_frequencies(weights)
    tables = FrequencyTables(frequencies, low + np.arange(weights.size))
    ideal = float(weights @ (24 - np.log2(frequencies))) / 8
    chunk = -(-count // threads)
    payloads = encode_chunks(values, tables, chunk=chunk)
    counts = [min(chunk, count - begin) for begin in range(0, count, chunk)]

    def excess(size: int) -> float:
        return size / ideal - 1

    contenders, error = {}, {}
    if job == DECODE:
        contenders["density"] = lambda: decode_chunks(payloads, counts, tables)
        error["density"] = lambda _: excess(sum(map(len, payloads)))
    else:
        contenders["density"] = lambda: encode_chunks(values, tables, chunk=chunk)
        error["density"] = lambda parts: excess(sum(map(len, parts)))
    constriction = peers.load("constriction")
    if constriction is not None:
        stream, symbols = constriction.stream, (values - low).astype(np.int32)
        model = stream.model.Categorical(frequencies / 2.0**24, perfect=False)

        def push():
            coder = stream.stack.AnsCoder()
            coder.encode_reverse(symbols, model)
            return coder.get_compressed()

        words = push()
        contenders["constriction"] = (
            push if job == ENCODE else lambda: stream.stack.AnsCoder(words).decode(model, count)
        )
        error["constriction"] = lambda _: excess(4 * len(words))
    absent = {} if constriction is not None else {"constriction": peers.why_absent("constriction")}
    name = f"rANS {job} of {count:,} Laplace integers, scale {scale:g}"
    return race(name, contenders, threads=threads, error=error, absent=absent)


def checksum_race(size: int) -> Race:
    """CRC-32C in numba against CRC-32 in C."""
    data = np.random.default_rng(SEED).bytes(size)
    contenders = {"density crc32c": lambda: crc32c(data), "zlib crc32": lambda: zlib.crc32(data)}
    return race(f"checksum of {size:,} bytes", contenders)


def sources(count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Integers to compress: known densities in unit bins, residuals of a photograph, weights of a network."""
    rng = np.random.default_rng(SEED)
    yield "Laplace, scale 20", np.rint(20 * rng.laplace(size=count)).astype(np.int32)
    yield "25-mode mixture, times 1000", np.rint(1000 * gallery.gmm25().ppf(rng.random(count))).astype(np.int32)
    yield "t3, scale 10", np.rint(10 * rng.standard_t(3, count)).astype(np.int32)
    yield "Cauchy", np.clip(np.rint(rng.standard_cauchy(count)), -(2**31), 2**31 - 1).astype(np.int32)
    if peers.load("sklearn") is not None:
        yield "photo residuals", gallery.photo_residuals().ravel()


def empirical_bytes(x: np.ndarray) -> float:
    """n times the empirical entropy: what no coder of independent symbols beats without being told the counts."""
    counts = np.unique(x, return_counts=True)[1]
    return float(counts @ np.log2(x.size / counts)) / 8


def told_bytes(name: str, x: np.ndarray) -> float | None:
    """-sum log2 P(x_i) in bytes: what a code takes that is told the source. None where nobody knows the source."""
    from scipy import stats

    values, counts = np.unique(x, return_counts=True)
    even = {
        "Laplace, scale 20": stats.laplace(scale=20),
        "t3, scale 10": stats.t(3, scale=10),
        "Cauchy": stats.cauchy(),
    }
    if name in even:  # the half that is far out: no difference of numbers near one
        far = np.abs(values).astype(float)
        source = even[name]
        mass = np.where(far > 0, source.sf(far - 0.5) - source.sf(far + 0.5), 1 - 2 * source.sf(0.5))
    elif name.startswith("25-mode"):
        mass = gallery.gmm25().cdf((values + 0.5) / 1000) - gallery.gmm25().cdf((values - 0.5) / 1000)
    else:
        return None
    return float(counts @ -np.log2(mass)) / 8


def compressors(name: str, x: np.ndarray) -> tuple[dict[str, tuple[Any, Any]], dict[str, str]]:
    """Pairs of functions that pack and unpack these integers, by library, and why some are absent."""
    import lzma

    raw = np.ascontiguousarray(x).tobytes()
    pairs: dict[str, tuple[Any, Any]] = {
        "density": (lambda: compress(x), decompress),
        "zlib 6": (lambda: zlib.compress(raw, 6), zlib.decompress),
        "lzma 6": (lambda: lzma.compress(raw), lzma.decompress),
    }
    absent = {}
    constriction, zstandard = peers.load("constriction"), peers.load("zstandard")
    if constriction is None:
        absent["constriction"] = peers.why_absent("constriction")
    else:
        pairs["constriction"] = constriction_pair(constriction, x)
    if zstandard is None:
        absent["zstandard 12"] = peers.why_absent("zstandard")
    else:
        pairs["zstandard 12"] = (
            lambda: zstandard.ZstdCompressor(level=12).compress(raw),
            lambda data: zstandard.ZstdDecompressor().decompress(data),
        )
    if name == "photo residuals" and peers.load("PIL") is not None:
        pairs["PNG of the photo"] = (_png, _unpng)
    return pairs, absent


def constriction_pair(constriction, x: np.ndarray) -> tuple[Any, Any]:
    """ANS with the exact counts as its model; the counts are not in its bytes, nor is a checksum."""
    stream = constriction.stream
    values, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    symbols = places.reshape(-1).astype(np.int32)
    model = stream.model.Categorical(counts / counts.sum(), perfect=False)

    def pack() -> bytes:
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(symbols, model)
        return coder.get_compressed().tobytes()

    def unpack(data: bytes) -> np.ndarray:
        return values[stream.stack.AnsCoder(np.frombuffer(data, np.uint32)).decode(model, x.size)]

    return pack, unpack


def container_race(job: str, name: str, x: np.ndarray, threads: int) -> Race:
    """`compress` and `decompress` with everything round the coder, beside general compressors on the same integers."""
    ideal = empirical_bytes(x)
    pairs, absent = compressors(name, x)
    packed = {who: pack() for who, (pack, _) in pairs.items()}
    excess = {who: len(data) / ideal - 1 for who, data in packed.items()}
    error = {who: (lambda _, value=value: value) for who, value in excess.items()}
    if job == ENCODE:
        contenders = {who: pack for who, (pack, _) in pairs.items()}
    else:
        contenders = {who: lambda unpack=unpack, data=packed[who]: unpack(data) for who, (_, unpack) in pairs.items()}
    what = "compress" if job == ENCODE else "decompress"
    return race(f"{what}: {name}, {x.size:,} integers", contenders, threads=threads, error=error, absent=absent)


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(gallery.photo()).save(file, "PNG", optimize=True)
    return file.getvalue()


def _unpng(data: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def weights_path() -> Path | None:
    """Where g2p_en keeps its weights; the package itself is not imported, for it wants a corpus."""
    found = importlib.util.find_spec("g2p_en")
    return None if found is None or found.origin is None else Path(found.origin).parent / "checkpoint20.npz"


def quantised_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, float], bytes]:
    """Weights of g2p_en, the step sigma / 8 of each tensor, and their levels in the narrowest integers."""
    with np.load(path) as stored:
        weights = {name: x for name, x in stored.items() if x.dtype.kind == "f"}
    steps = {name: float(x.std()) / 8 for name, x in weights.items()}
    levels = [np.rint(x / steps[name]).astype(np.int64) for name, x in weights.items()]
    raw = b"".join(k.astype(np.int8 if np.abs(k).max() < 128 else np.int16).tobytes() for k in levels)
    return weights, steps, raw


def weights_race(path: Path, job: str = ENCODE) -> Race:
    """Weights of g2p_en, in steps of sigma / 8 a tensor; the peers are given the same levels as int16, or int8."""
    import lzma

    weights, steps, raw = quantised_weights(path)
    ideal = sum(empirical_bytes(np.rint(x / steps[name]).ravel()) for name, x in weights.items())
    pairs: dict[str, tuple[Any, Any]] = {
        "density": (lambda: compress_tensors(weights, steps), decompress_tensors),
        "zlib 6": (lambda: zlib.compress(raw, 6), zlib.decompress),
        "lzma 6": (lambda: lzma.compress(raw), lzma.decompress),
    }
    constriction, zstandard = peers.load("constriction"), peers.load("zstandard")
    if constriction is not None:
        each = [constriction_pair(constriction, np.rint(x / steps[name]).ravel()) for name, x in weights.items()]
        pairs["constriction"] = (
            lambda: [pack() for pack, _ in each],
            lambda parts: [unpack(part) for part, (_, unpack) in zip(parts, each)],
        )
    if zstandard is not None:
        pairs["zstandard 12"] = (
            lambda: zstandard.ZstdCompressor(level=12).compress(raw),
            lambda data: zstandard.ZstdDecompressor().decompress(data),
        )
    packed = {who: pack() for who, (pack, _) in pairs.items()}
    excess = {who: _length(data) / ideal - 1 for who, data in packed.items()}
    error = {who: (lambda _, value=value: value) for who, value in excess.items()}
    if job == ENCODE:
        contenders = {who: pack for who, (pack, _) in pairs.items()}
    else:
        contenders = {who: lambda unpack=unpack, data=packed[who]: unpack(data) for who, (_, unpack) in pairs.items()}
    count = sum(x.size for x in weights.values())
    return race(f"{job}: {count:,} weights of g2p_en in {len(weights)} tensors", contenders, error=error)


def _length(data) -> int:
    return len(data) if isinstance(data, bytes) else sum(map(len, data))


def markdown(count: int) -> str:
    """Sizes and CPU times of every source by every library, then the rates of the coder alone, one and two threads."""
    jobs: list[tuple[str, float, Race, Race]] = []
    for name, x in sources(count):
        jobs.append((name, empirical_bytes(x), container_race(ENCODE, name, x, 1), container_race(DECODE, name, x, 1)))
    path = weights_path()
    if path is not None:
        weights, steps, _ = quantised_weights(path)
        ideal = sum(empirical_bytes(np.rint(x / steps[name]).ravel()) for name, x in weights.items())
        jobs.append(("weights of g2p_en", ideal, weights_race(path, ENCODE), weights_race(path, DECODE)))
    coders = list(dict.fromkeys(who for _, _, packing, _ in jobs for who in packing.cpu))
    lines = ["bytes above the empirical entropy n H; CPU ms to compress / to decompress", ""]
    lines += ["| source | n H, bytes | " + " | ".join(coders) + " |", "|---" * (len(coders) + 2) + "|"]
    for name, ideal, packing, unpacking in jobs:
        cells = []
        for who in coders:
            if who in packing.cpu:
                there, back = (1e3 * float(np.median(r.cpu[who])) for r in (packing, unpacking))
                cells.append(f"{ideal * (packing.error[who] or 0.0):+,.0f}; {there:.1f} / {back:.1f}")
            else:
                cells.append("")
        lines.append(f"| {name} | {ideal:,.0f} | " + " | ".join(cells) + " |")
    lines += ["", "| source | n H | -sum log2 P, bytes | compress | above -sum log2 P |", "|---|---|---|---|---|"]
    for name, x in sources(count):
        told = told_bytes(name, x)
        if told is not None:
            size = len(compress(x))
            lines.append(f"| {name} | {empirical_bytes(x):,.0f} | {told:,.0f} | {size:,} | {size - told:,.0f} |")
    lines += ["", "| coder alone, Laplace | threads | Msym/s | times constriction's |", "|---|---|---|---|"]
    symbols = 2**22
    for job in (DECODE, ENCODE):
        for threads in (1, 2):
            result = coder_race(job, symbols, 30.0, threads)
            rate = symbols / float(np.median(result.wall["density"])) / 1e6
            known = "constriction" in result.wall
            times = f"{result.ratio('constriction', 'density').median:.2g}" if known else "n/a"
            lines.append(f"| {job} | {threads} | {rate:.0f} | {times} |")
    return "\n".join(lines)


def races(quick: bool) -> Iterator[Race]:
    """Every race, single thread first."""
    for threads in sorted({1, all_threads()}):
        for job in (DECODE, ENCODE):
            yield coder_race(job, 2**19 if quick else 2**23, 30.0, threads)
        for name, x in sources(2**18 if quick else 10**6):
            for job in (DECODE, ENCODE):
                yield container_race(job, name, x, threads)
    path = weights_path()
    if path is not None:
        for job in (DECODE, ENCODE):
            yield weights_race(path, job)
    yield checksum_race(2**20 if quick else 2**24)


class Coder:
    """rANS beside constriction, one thread and all."""

    timeout = 600

    def setup_cache(self):
        """Decoding and encoding, by threads."""
        return {(job, n): coder_race(job, 2**22, 30.0, n) for job in (DECODE, ENCODE) for n in {1, all_threads()}}

    def track_ratio_decode(self, results) -> float:
        """Our time over constriction's, one thread."""
        return _ratio(results[DECODE, 1], "density", "constriction")

    def track_ratio_decode_all_threads(self, results) -> float:
        """Our time over constriction's, which has one thread."""
        return _ratio(results[DECODE, all_threads()], "density", "constriction")

    def track_ratio_encode(self, results) -> float:
        """Our time over constriction's, one thread."""
        return _ratio(results[ENCODE, 1], "density", "constriction")

    def track_excess(self, results) -> float:
        """What we spend above the cross-entropy, as a fraction."""
        return results[ENCODE, 1].error["density"]


class Container:
    """`compress` and `decompress` of a million Laplace integers beside general compressors."""

    timeout = 600

    def setup_cache(self):
        """Both ways, one thread."""
        name, x = next(sources(10**6))
        return {job: container_race(job, name, x, 1) for job in (DECODE, ENCODE)}

    def track_excess(self, results) -> float:
        """Bytes above n times the empirical entropy, as a fraction; the target is 2e-4 and 256 bytes."""
        return results[ENCODE].error["density"]

    def track_ratio_decompress_zstandard(self, results) -> float:
        """Our time over zstandard's."""
        return _ratio(results[DECODE], "density", "zstandard 12")

    def track_ratio_compress_zstandard(self, results) -> float:
        """Our time over zstandard's, level 12."""
        return _ratio(results[ENCODE], "density", "zstandard 12")


def _ratio(result: Race, ours: str, peer: str) -> float:
    return result.ratio(ours, peer).median if peer in result.wall else float("nan")


if __name__ == "__main__":
    print(markdown(int(sys.argv[1]) if len(sys.argv) > 1 else 10**6))
