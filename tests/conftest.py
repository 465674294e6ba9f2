"""Fixtures and switches that all tests share."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lowrank", "seqsolve", "density")


def _source_hash() -> str:
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# numba's disk cache of a kernel goes stale when a kernel that it calls changes in another file, and a stale kernel
# returns wrong numbers. A folder named after all sources cannot be stale. Set before anything imports numba.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"triskele-numba-{_source_hash()}"))

from hypothesis import HealthCheck, settings  # noqa: E402

_COMMON = {
    "deadline": None,  # the machine may be shared: speed is judged in benchmarks/, never in a test
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}
settings.register_profile("ci", max_examples=25, derandomize=True, **_COMMON)
settings.register_profile("nightly", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def rng(request) -> np.random.Generator:
    """A generator seeded by the test's own name: the same numbers in any order of the tests."""
    name = hashlib.sha256(request.node.nodeid.encode()).digest()
    return np.random.default_rng(int.from_bytes(name[:8], "little"))


@pytest.fixture
def strict_floats():
    """Every floating-point exception is an error while the test runs: ``np.errstate(all="raise")``."""
    with np.errstate(all="raise"):
        yield


@pytest.fixture(autouse=True)
def _closed_figures():
    """What a test draws through pyplot ends with it: pyplot keeps figures, and warns of twenty whoever draws next."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


def pytest_collection_modifyitems(items):
    def has_gpu() -> bool:
        import torch

        return torch.cuda.is_available()

    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and not has_gpu():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
