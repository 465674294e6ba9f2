"""Stored densities of every map come back, and damaged ones do not."""

import numpy as np
import pytest

import density as ds

KWARGS = {
    "mixture": {"map": "mixture", "order": 3},
    "half": {"map": "lognormal", "support": (-40.0, np.inf), "order": 3},
    "mirrored": {"map": "exponential", "support": (-np.inf, 40.0), "order": 3},
}


@pytest.mark.parametrize("name", sorted(KWARGS))
def test_bytes_come_back_and_damage_is_seen(rng, name):
    p = ds.fit(ds.gallery.claw().sample(800, rng), **KWARGS[name])
    data = p.to_bytes()
    q = ds.from_bytes(data)
    t = np.linspace(-3, 3, 101)
    assert q == p
    assert hash(q) == hash(p)
    assert q.to_bytes() == data
    assert np.array_equal(q.pdf(t), p.pdf(t))
    assert np.array_equal(q.ppf([0.1, 0.9]), p.ppf([0.1, 0.9]))
    for size in range(len(data)):
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(data[:size])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(bytes(flipped))
