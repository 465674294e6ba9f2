"""Integer tables of a density: sums exact, cost that of the float model, the same integers for ever."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from density import _frozen_kernels as kernels
from density.bin_mass import bin_bits
from density.frozen import freeze_density
from tests.conftest import ROOT

TAIL = 1e-4


def float_mass(a, scale, first_values, raw_bits):
    """Mass of each symbol under the float model."""
    width = 2.0**raw_bits
    x = torch.tensor(first_values + (width - 1) / 2)
    shape = (1, 1, -1)
    rows = torch.tensor(a).expand(1, 1, len(x), -1)  # one density a value, so that the step may differ
    log_scale = torch.full((1, 1, len(x)), math.log(scale), dtype=torch.float64)
    return (
        torch.exp2(-bin_bits(x.reshape(shape), log_scale, torch.tensor(np.log(width)).reshape(shape), rows, TAIL))
        .flatten()
        .numpy()
    )


@pytest.mark.parametrize("scale", [3e-3, 0.06, 0.4, 1.0, 7.3, 90.0, 4e3, 1e6])
@pytest.mark.parametrize("order", [1, 16, 64])
def test_the_frequencies_are_the_model(rng, scale, order):
    a = rng.normal(size=(1, order + 1)) / (1 + np.arange(order + 1))
    tables = freeze_density(a, [scale], [1.0], TAIL).tables()
    frequencies = tables.frequencies[:-1] / 2.0**24
    mass = float_mass(a, scale, tables.first_values[:-1].astype(float), tables.raw_bits[:-1])
    assert tables.frequencies.sum() == 2**24
    assert tables.frequencies.min() >= 1
    assert abs(frequencies - mass).max() < 5e-4 * max(mass)
    loss = float(mass @ np.log2(mass / frequencies))
    assert loss < 1e-4  # bits a value


def test_values_near_and_far_have_a_symbol(rng):
    tables = freeze_density([[1.0, 0.3]], [2.5], [1.0], TAIL).tables()
    ends = tables.first_values[1:-1] - tables.first_values[:-2]
    assert (ends == 2 ** tables.raw_bits[:-2].astype(np.int64)).all()  # no gap
    assert tables.raw_bits[-1] == 255
    assert tables.raw_bits[tables.first_values == 0][0] == 0


def test_fixed_point_functions_follow_their_floats():
    for t in np.linspace(0, 40, 999):
        assert kernels._exp2(np.int64(t * 2**32)) / 2**31 == pytest.approx(2.0 ** -(int(t * 2**32) / 2**32), abs=2e-8)
    for angle in np.linspace(0, 2**32 - 1, 999).astype(np.int64):
        assert kernels._sine(angle) / 2**30 == pytest.approx(math.sin(angle / 2**31 * math.pi), abs=2e-8)
    for ratio in np.linspace(kernels.MIN_RATIO, kernels.MAX_RATIO, 99) * 2**16:
        half = kernels._half_step(np.int64(ratio)) / 2**56
        assert half == pytest.approx(2.0 ** (int(ratio) / 2**16), rel=1e-7)


DIGEST = """
import hashlib
import numpy as np
from density.conditional import freeze_head
from density.frozen import FrozenDensity

a = np.array([[32768, 0, 0], [30000, -9000, 9500], [20000, 20000, 15000]], np.int32)
density = FrozenDensity(a, np.array([-70000, 1234, -400000], np.int32), 1678)
weight = np.arange(-30, 30).reshape(3, 5, 4) / 7
head = freeze_head(weight, weight[..., 0] / 3, [-3.0, 0.5, -20.0], np.eye(3), 1678)
shifts, predicted = head.predict(np.arange(-6, 6).reshape(4, 3) / 3)
digest = hashlib.sha256(np.concatenate([shifts, predicted.coefficients.ravel(), predicted.ratios]).tobytes())
for part in (*density.symbols(), *predicted.symbols()):
    digest.update(np.ascontiguousarray(part, "<i8").tobytes())
print(digest.hexdigest()[:16])
"""


@pytest.mark.parametrize("compiled", [True, False])
def test_the_integers_are_pinned(compiled):
    """A change of any bit makes earlier strings unreadable. In plain Python an overflow would be an error."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0" if compiled else "1"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", DIGEST]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "4aac432e0ed2bde0", done.stderr


def test_bad_models_are_refused():
    with pytest.raises(ValueError, match="must be finite, with norm, scale and step > 0"):
        freeze_density([[0.0, 0.0]], [1.0], [1.0], TAIL)
    with pytest.raises(ValueError, match="must be finite"):
        freeze_density([[np.nan, 0.0]], [1.0], [1.0], TAIL)
    with pytest.raises(ValueError, match=r"the scale is 1e\+09 steps; pass a step of at least 2\^-24 scales"):
        freeze_density([[1.0, 0.0]], [1.0], [1e-9], TAIL)
