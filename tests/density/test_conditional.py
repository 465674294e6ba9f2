"""The integer head against its floats, and streams in which each value has its own table."""

import numpy as np
import pytest

from density import conditional
from density.conditional import decode_each, encode_each, freeze_head
from density.frozen import COEFFICIENT_ONE, RATIO_ONE, FrozenDensity, freeze_density
from density.rans import StreamError


@pytest.fixture
def density(rng):
    a = rng.normal(size=(400, 6)) / (1 + np.arange(6))
    return freeze_density(a, np.exp(rng.normal(size=400) * 2), np.ones(400), 1e-4)


def test_the_integer_head_follows_the_float_head(rng):
    C, K, F, L = 3, 5, 4, 50
    weight, bias = rng.normal(size=(C, K + 3, F)) * 0.3, rng.normal(size=(C, K + 3)) * 0.3
    ratios, base = np.array([-4.0, -1.0, 0.5]), np.eye(1, K + 1) * np.ones((C, 1))
    features = np.rint(rng.normal(size=(F, L)) * 100) / 64
    shifts, found = freeze_head(weight, bias, ratios, base, 1678).predict(features)
    out = (weight @ features + bias[..., None]).transpose(0, 2, 1).reshape(C * L, K + 3)
    assert np.abs(shifts - out[:, 0]).max() < 1e-4
    expected = np.clip(np.repeat(ratios, L) - out[:, 1] / np.log(2), -25, 6)
    assert np.abs(found.ratios / RATIO_ONE - expected).max() < 1e-4
    a = out[:, 2:] + np.repeat(base, L, axis=0)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    assert np.abs(found.coefficients / COEFFICIENT_ONE - a).max() < 1e-4


def test_a_head_that_predicts_nothing_is_flat():
    head = freeze_head(np.zeros((1, 5, 2)), np.zeros((1, 5)), [0.0], np.zeros((1, 3)), 1678)
    _, density = head.predict(np.ones((2, 3)))
    assert density.coefficients.tolist() == [[COEFFICIENT_ONE, 0, 0]] * 3


@pytest.mark.parametrize("symbols", [2**20, 500])
def test_values_come_back_from_any_blocks(rng, density, monkeypatch, symbols):
    monkeypatch.setattr(conditional, "_SYMBOLS", symbols)
    values = np.rint(rng.standard_t(2, size=400) * 2.0 ** -(density.ratios / RATIO_ONE)).astype(np.int64)
    values[:3] = [10**15, -(10**12), 0]
    data = encode_each(values, density)
    assert encode_each(values, density, workers=1) == data
    np.testing.assert_array_equal(decode_each(data, density, workers=2), values)
    for broken in (data[:-1], data[:3], b"", data + b"\0", data[:4] + data[8:]):
        with pytest.raises(StreamError):
            decode_each(broken, density)


def test_nothing_to_code(density):
    empty = FrozenDensity(density.coefficients[:0], density.ratios[:0], density.tail)
    assert encode_each(np.empty(0, np.int64), empty) == b""
    assert decode_each(b"", empty).tolist() == []


def test_heads_that_cannot_be_integers_are_refused():
    with pytest.raises(ValueError, match=r"weights of the head must be finite and below 2\^20"):
        freeze_head(np.full((1, 4, 1), np.nan), np.zeros((1, 4)), [0.0], [[1.0, 0.0]], 1678)
    with pytest.raises(ValueError, match="must be finite and below"):
        freeze_head(np.full((1, 4, 1), 1e9), np.zeros((1, 4)), [0.0], [[1.0, 0.0]], 1678)
    head = freeze_head(np.ones((1, 4, 1)), np.zeros((1, 4)), [0.0], [[1.0, 0.0]], 1678)
    with pytest.raises(ValueError, match=r"features reach 1e\+13, too far for 64-bit sums"):
        head.predict(np.full((1, 2), 1e13))
