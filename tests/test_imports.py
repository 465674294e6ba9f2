"""What an import costs and what it drags along, measured in fresh processes."""

import json
import subprocess
import sys

import pytest

from tests.conftest import PACKAGES, ROOT

HEAVY = ("torch", "sklearn", "dask", "matplotlib", "numba", "jax")
FORBIDDEN = {
    "lowrank": ("torch", "sklearn", "dask", "matplotlib", "jax"),
    "seqsolve": ("sklearn", "dask", "matplotlib", "jax"),
    "density": ("torch", "numba", "sklearn", "dask", "matplotlib", "jax"),
}
MAIN = {"lowrank": "column_id", "seqsolve": "parallelize", "density": "fit"}
# CPU seconds on an idle core. A shared machine is noisy, so only a gross violation fails.
BUDGET = {"lowrank": 0.6, "density": 0.3}
GROSS = 4.0

PROBE = """
import json, sys, time
import numpy  # every user of ours has paid for numpy already
start = time.process_time()
import {package}
getattr({package}, {main!r})  # names load on first use, so the main one is paid for here
seconds = time.process_time() - start
print(json.dumps([seconds, [m for m in {heavy!r} if m in sys.modules], {package}.__file__]))
"""


def probe(package: str) -> tuple[float, list[str], str]:
    code = PROBE.format(package=package, main=MAIN[package], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("package", PACKAGES)
def test_import_leaves_heavy_libraries_out(package):
    _, loaded, _ = probe(package)
    assert not set(loaded) & set(FORBIDDEN[package])


@pytest.mark.parametrize("package", sorted(BUDGET))
def test_import_budget(package, capsys):
    seconds = min(probe(package)[0] for _ in range(3))
    with capsys.disabled():
        print(f"\nimport {package}: {seconds:.3f} s of CPU, budget {BUDGET[package]} s")
    assert seconds < GROSS * BUDGET[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_our_package_is_the_one_imported(package):
    """PyPI has unrelated projects named lowrank and density; an installed one must not shadow ours."""
    _, _, path = probe(package)
    assert path == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_loads_and_belongs_to_the_file_it_is_said_to_be_in(package):
    code = (
        f"import {package} as p\n"
        "for name in p.__all__:\n"
        "    assert getattr(p, name) is not None, name\n"
        "assert sorted(p.__all__) == dir(p) == sorted(p._EXPORTS), 'the three lists of names differ'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_wins_over_the_file_of_the_same_name(package):
    """``import lowrank.cur`` must not turn ``lowrank.cur`` into a module."""
    code = (
        f"import importlib, types, {package} as p\n"
        "for name, file in p._EXPORTS.items():\n"
        "    if name == file:\n"
        f"        module = importlib.import_module('{package}.' + file)\n"
        "        want = getattr(module, name, module)\n"
        "        assert getattr(p, name) is want, name\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package):
    module = __import__(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        module.no_such_name
