"""Kernels survive a fork and eight Python threads at once, with the same answer to the last bit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import PACKAGES, ROOT
from tests.exercises import EXERCISES, same


@pytest.mark.parametrize("package", PACKAGES)
def test_a_fork_after_every_kernel_has_run(package):
    done = subprocess.run(
        [sys.executable, "-m", "tests.exercises", "fork", package],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "child 0; untouched []\n", done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_eight_python_threads(package):
    alone = EXERCISES[package]()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: EXERCISES[package](), range(8)))
    assert all(same(alone, other) for other in together)
