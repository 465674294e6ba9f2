"""The wheel holds the three packages and nothing else, and works in a clean environment from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests.conftest import PACKAGES, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("triskele-*.whl")
    return path


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name]


def test_install_and_import_elsewhere(wheel, tmp_path):
    home = tmp_path / "clean"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    query = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(wheel),
        ],
        check=True,
    )
    # The dependencies come from the running environment; a .pth line adds its folder alone, so that our own editable
    # install in there stays out of sight.
    with open(os.path.join(site, "dependencies.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    code = f"""
import importlib.metadata as metadata, numpy as np, sys
for name in {PACKAGES!r}:
    module = __import__(name)
    assert module.__file__.startswith({site!r}), module.__file__
    assert metadata.packages_distributions()[name] == ["triskele"], metadata.packages_distributions()[name]
import lowrank, density
A = np.add.outer(np.arange(30.0), np.arange(20.0))
assert lowrank.column_id(A, rank=2, rng=7).relative_error(A) < 1e-12
x = np.arange(1000) % 7
assert (density.HistogramSketch().update(x.astype(float)) or True)
print("fine")
"""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH",)}
    done = subprocess.run([str(python), "-c", code], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
