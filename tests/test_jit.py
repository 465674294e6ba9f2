"""The disk cache of compiled kernels may be missing, read-only or broken; the answer is the same."""

import importlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = """
import warnings; warnings.simplefilter("error")
import numpy as np, sys
sys.path.insert(0, {folder!r})
import a_module
print(a_module.twice(np.arange(4.0)).sum())
"""

MODULE = """
from lowrank._jit import kernel

@kernel
def twice(x):
    return 2.0 * x
"""


def run_in(folder: Path, **env) -> subprocess.CompletedProcess:
    (folder / "a_module.py").write_text(MODULE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(folder))], env=environment, capture_output=True, text=True
    )


def test_the_cache_is_used_where_it_can_be(tmp_path):
    done = run_in(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.stdout, done.stderr, done.returncode) == ("12.0\n", "", 0)
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_no_folder_to_write_to(tmp_path):
    """A cache folder that cannot exist (its parent is a file) at decoration and at the first call."""
    (tmp_path / "file").write_text("")
    done = run_in(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert (done.stdout, done.stderr, done.returncode) == ("12.0\n", "", 0)


def test_a_cache_folder_that_vanishes_between_probe_and_first_call(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    jit = importlib.import_module("lowrank._jit")
    from numba.core import config

    monkeypatch.setattr(config, "CACHE_DIR", str(cache))
    source = tmp_path / "vanishing.py"
    source.write_text("def thrice(x):\n    return 3.0 * x\n")
    spec = importlib.util.spec_from_file_location("vanishing", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    thrice = jit.kernel(module.thrice)
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    cache.rmdir()
    cache.write_text("in the way")
    assert thrice(2.0) == 6.0


def test_a_broken_cache_file_is_compiled_again(tmp_path):
    cache = tmp_path / "cache"
    run_in(tmp_path, NUMBA_CACHE_DIR=str(cache))
    broken = [*cache.rglob("*.nbi"), *cache.rglob("*.nbc")]
    assert broken
    for path in broken:
        path.write_bytes(path.read_bytes()[:-20])
    done = run_in(tmp_path, NUMBA_CACHE_DIR=str(cache))
    assert (done.stdout, done.stderr, done.returncode) == ("12.0\n", "", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_install(tmp_path):
    (tmp_path / "a_module.py").write_text(MODULE)
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        done = run_in(tmp_path, NUMBA_CACHE_DIR=str(tmp_path), HOME=str(tmp_path))
    finally:
        tmp_path.chmod(stat.S_IRWXU)
    assert done.returncode == 0


def test_fastmath_true_is_refused():
    from lowrank._jit import kernel

    with pytest.raises(ValueError, match="name the flags instead"):
        kernel(fastmath=True)(lambda x: x)
