"""Sizes against what information theory allows, and against an independent coder."""

import numpy as np
import pytest
from scipy import stats

import density as ds
from density.chunks import read_model
from density.container import parse

N = 1_000_000
SOURCES = {
    "laplace": (stats.laplace(scale=20), lambda rng: 20 * rng.laplace(size=N)),
    "t3": (stats.t(3, scale=10), lambda rng: 10 * rng.standard_t(3, N)),
    "cauchy": (stats.cauchy(), lambda rng: rng.standard_cauchy(N)),
}


def bits_of_the_source(source, values, counts) -> float:
    """-sum log2 P(x_i): what a code costs that is told the distribution, which no other code undercuts but by luck."""
    far = np.abs(values).astype(float)  # the sources are even: no difference of numbers near one
    mass = np.where(far > 0, source.sf(far - 0.5) - source.sf(far + 0.5), 1 - 2 * source.sf(0.5))
    return float(-(counts @ np.log2(mass)))


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_million_values_take_what_their_source_takes_and_256_bytes(rng, name):
    """n H (1 + 0.02 %) + 256 bytes, H of the source.

    The empirical entropy is no bound for a code: it is below -sum log2 P by about 0.7 bits a value that occurs often,
    and by far more where most values occur once. For the Cauchy source the difference is 550 bytes, so that no code at
    all stays within 256 bytes and 0.02 % of the empirical entropy: sum_x 2^-length(x) <= 1 for any code (McMillan 1956,
    doi:10.1109/TIT.1956.1056818), so that by Markov it undercuts -log2 P(x) by k bits with probability 2^-k at most.
    """
    source, draw = SOURCES[name]
    x = np.rint(np.clip(draw(rng), -1e15, 1e15)).astype(np.int64)
    values, counts = np.unique(x, return_counts=True)
    told, empirical = bits_of_the_source(source, values, counts) / 8, float(counts @ np.log2(N / counts)) / 8
    blob = ds.compress(x)
    assert np.array_equal(ds.decompress(blob), x)
    assert len(blob) <= told * (1 + 2e-4) + 256
    if name == "cauchy":
        assert told > empirical * (1 + 2e-4) + 256  # before any table or header
    else:
        assert len(blob) <= empirical * (1 + 2e-4) + 256


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_chunks_of_a_container_are_as_long_as_those_of_constriction(rng, name):
    """The same table, read out of the container: its symbols by constriction's coder, raw bits counted as they are."""
    stream = pytest.importorskip("constriction", reason="constriction is not installed").stream
    x = np.rint(np.clip(SOURCES[name][1](rng), -1e15, 1e15)).astype(np.int64)
    blob = ds.compress(x, chunk=N)
    _, models, chunks = parse(blob)
    model = models[0]
    tables = read_model(model, blob[model.at : model.at + model.size])
    assert tables.first_values is not None
    assert tables.raw_bits is not None
    symbols = np.searchsorted(tables.first_values[:-1], x, side="right") - 1
    place = x.view(np.uint64) - tables.first_values[symbols].view(np.uint64)
    escaped = (symbols < 0) | (place >> tables.raw_bits[symbols].astype(np.uint64) != 0)
    assert not escaped.any()
    coder = stream.stack.AnsCoder()
    categorical = stream.model.Categorical(tables.frequencies / 2.0**24, perfect=False)
    coder.encode_reverse(symbols.astype(np.int32), categorical)
    theirs = 4 * len(coder.get_compressed()) + int(tables.raw_bits[symbols].sum(dtype=np.int64)) / 8
    (chunk,) = chunks
    assert abs(chunk.size - theirs) <= 1e-4 * theirs + 32  # four lanes end with 32 bytes of state, theirs with 8
