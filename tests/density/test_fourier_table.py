"""A fitted density as integers in the container: short, close to the density, and refused where forged."""

import numpy as np
import pytest

import density as ds
from density.container import parse
from density.errors import CorruptDataError
from density.fourier_table import FourierTable, fourier_tables
from density.rans import decode, encode
from density.tables import cost


@pytest.mark.parametrize("place", [0.0, -3e5, 1e9])
def test_a_table_codes_any_integer_and_comes_back(rng, place):
    model = ds.fit(place + rng.standard_t(4, 4000), order=12, map="logistic")
    x = np.array([0, 1, -5, 2**62, -(2**63), round(10 * place), round(10 * place) + 3])
    for table in list(fourier_tables(model, 0.1))[::4]:
        again = FourierTable.from_bytes(table.to_bytes())
        assert np.array_equal(again.tables.rows, table.tables.rows)
        assert np.array_equal(decode(encode(x, table.tables), len(x), again.tables), x)


@pytest.mark.parametrize("step", [0.02, 0.5, 2.0])
def test_the_best_table_is_near_the_density(rng, step):
    x = rng.normal(7, 1, 50_000)
    model = ds.fit(x, order=8, map="logistic")
    values, counts = np.unique(np.rint(x / step).astype(np.int64), return_counts=True)
    mass = model.cdf((values + 0.5) * step) - model.cdf((values - 0.5) * step)
    ideal = float(-(counts * np.log2(mass)).sum())
    best = min(cost(t.tables, values, counts) for t in fourier_tables(model, step))
    assert best < 1.003 * ideal


def test_the_shorter_of_the_two_tables_is_written(rng):
    x = rng.laplace(size=3000)
    model = ds.fit(x, order=6, map="laplace")
    blob = ds.compress(x, step=0.01, model=model)
    assert next(iter(parse(blob)[1].values())).size < 60  # coefficients, not a thousand symbols
    assert np.abs(ds.decompress(blob) - x).max() <= 0.005
    few = rng.choice([3, 900, 77_777], 3000)
    assert np.array_equal(ds.decompress(ds.compress(few, model=ds.fit(few + rng.normal(size=3000)))), few)


def test_a_degenerate_density_has_no_tables(rng):
    assert list(fourier_tables(ds.fit(rng.normal(size=99), order=2, map="logistic"), 1e-12)) == []


def test_forged_tables_are_refused_or_code():
    good = next(fourier_tables(ds.fit(np.linspace(-1, 1, 99), order=2, map="logistic"), 0.1)).to_bytes()
    refused = 0
    for at in range(1, len(good)):
        for value in (0, 1, 127, 128, 255):
            try:
                tables = FourierTable.from_bytes(good[:at] + bytes([value]) + good[at + 1 :]).tables
            except CorruptDataError:
                refused += 1
                continue
            assert tables.frequencies.sum() == 2**24
    assert refused > 10
    with pytest.raises(CorruptDataError, match="impossible numbers"):
        FourierTable.from_bytes(good[:1] + b"\0\0\0\0" + good[5:])
