"""The vector tanh within its stated error, the cells beside their formulas."""

import numpy as np
import pytest
from numba import njit

from seqsolve import _kernels as kernels
from seqsolve._vectors import BOUND, load, prompt_tanh, store, tanh_times
from seqsolve.cells import GATES, Layout, Track, Weights, lanes_for, run_layer
from tests.reference import cell_step


def tanh(x, lanes=8):
    out = np.empty_like(x)
    kernels.tanh_array((0,) * lanes, x, out)
    return out


def test_tanh_float32_of_every_positive_number():
    """The stated bounds hold for all of float32; a binade, 2^23 numbers, at a time."""
    one, saturated = np.float32(1.0), np.float32(BOUND)
    worst, units = 0.0, 0.0
    for low in range(0, np.float32(np.inf).view(np.int32), 1 << 23):
        x = np.arange(low, low + (1 << 23), dtype=np.int32).view(np.float32)
        if x[-1] < 2.0**-13:  # P and Q round to 1
            if low % (1 << 26):  # the same arithmetic binade after binade: every eighth is enough
                continue
            np.testing.assert_array_equal(tanh(x), x)
        elif x[0] >= saturated:
            if x[0] > 64 and low % (1 << 26):
                continue
            assert (tanh(x) == one).all()
        else:
            y, exact = tanh(x), tanh(x.astype(np.float64))  # the float64 one within 3 units of its last place
            inside = int(np.searchsorted(x, saturated))
            assert y[:inside].max() < one
            assert (y[inside:] == one).all()
            error = np.abs(y - exact)
            worst = max(worst, float(error.max()))
            # tanh is monotone, and a binade of x meets at most two binades of tanh
            middle = int(np.searchsorted(exact, 2.0 ** np.floor(np.log2(exact[-1]))))
            for low_end, high_end in ((0, middle), (middle, len(x))):
                if low_end < high_end:
                    unit = np.spacing(np.float32(exact[low_end] * (1 + 1e-12)))
                    units = max(units, float(error[low_end:high_end].max() / unit))
    assert worst < 3e-7
    assert units < 5


def test_tanh_float32_is_odd(rng):
    x = np.concatenate([rng.uniform(-10, 10, 80_000), 10.0 ** rng.uniform(-40, 38, 80_000)]).astype(np.float32)
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


def test_tanh_float64():
    x = np.concatenate([np.linspace(-22, 22, 200_000), np.geomspace(1e-300, 20, 200_000)])
    exact = np.tanh(x.astype(np.longdouble))
    y = tanh(x)
    assert float(np.abs(y - exact).max()) < 3e-16
    assert float((np.abs(y - exact) / np.spacing(np.abs(exact).astype(float))).max()) < 3
    assert np.abs(y).max() == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_of_what_is_not_a_number(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30], dtype)
    y = tanh(x)
    np.testing.assert_array_equal(y, np.array([np.nan, 1, -1, 0, -0.0, 1, -1, 1e-30], dtype))


@njit
def _prompt(lanes, x, out, scaled):
    for i in range(0, x.size, len(lanes)):
        a, b = load(x, i, lanes), load(scaled, i, lanes)
        store(out, i, prompt_tanh(a))
        store(scaled, i, tanh_times(b, a))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_prompt_tanh_has_the_bits_of_the_other(dtype, rng):
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, BOUND, -BOUND, 1e30]
    near = np.nextafter(dtype(BOUND), dtype([0, 9] * 4))
    x = np.concatenate([rng.uniform(-10, 10, 80_000), 10.0 ** rng.uniform(-40, 38, 8_000), special, near]).astype(dtype)
    scale = rng.uniform(0, 1, x.size).astype(dtype)
    out, scaled = np.empty_like(x), scale.copy()
    _prompt((0,) * 8, x, out, scaled)
    np.testing.assert_array_equal(out, tanh(x))
    np.testing.assert_allclose(scaled, scale * out, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", sorted(GATES))
@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 8, 13, 17, 40])
def test_cells_follow_their_formulas(kind, units, dtype, rng):
    inputs, steps = 11 if units % 4 == 0 else 3, 6  # a short product is taken into the loop
    shapes = [(GATES[kind] * units, n) for n in (inputs, units)] + [(GATES[kind] * units,)] * 2
    arrays = [rng.uniform(-0.7, 0.7, s).astype(dtype) for s in shapes]
    x, h, c = (rng.standard_normal(s).astype(dtype) for s in ((steps, inputs), (1, units), (1, units)))
    track = Track(Weights(kind, *arrays), h, c if kind == "lstm" else None)
    out = np.empty((steps, units), dtype)
    run_layer([track], x, Layout.padded(steps, 1), out, 1)
    state = (h[0].astype(float), c[0].astype(float)) if kind == "lstm" else h[0].astype(float)
    for t in range(steps):
        state = cell_step(kind, state, x[t].astype(float), *(a.astype(float) for a in arrays))
        expected = state[0] if kind == "lstm" else state
        scale = max(1.0, np.abs(expected).max())
        assert np.abs(out[t] - expected).max() / scale < 20 * np.finfo(dtype).eps
    np.testing.assert_array_equal(track.final()[0][0], out[-1])


def test_time_in_pieces_is_time_in_one_piece(rng, monkeypatch):
    arrays = [rng.uniform(-0.5, 0.5, s) for s in ((15, 2), (15, 5), (15,), (15,))]
    x, h = rng.standard_normal((300, 2)), rng.standard_normal((3, 5))
    outs = []
    for size in (1 << 20, 1 << 10):
        monkeypatch.setattr("seqsolve.cells._PIECE", size)
        for backwards in (False, True):
            out = np.empty((300, 5))
            run_layer([Track(Weights("gru", *arrays), h, None, backwards=backwards)], x, Layout.padded(100, 3), out, 1)
            outs.append(out)
    np.testing.assert_array_equal(outs[0], outs[2])
    np.testing.assert_array_equal(outs[1], outs[3])


def test_lanes_never_leave_more_padding_than_they_must():
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for units in range(1, 200):
            lanes = len(lanes_for(units, dtype))
            assert lanes in (4, 8, 16)
            assert -units % lanes < lanes
        assert len(lanes_for(3, dtype)) == 4


def test_layout_of_packed_sequences():
    layout = Layout.packed(np.array([3, 3, 1]))
    assert layout.start.tolist() == [0, 3, 6, 7]
    assert layout.lengths.tolist() == [3, 2, 2]
