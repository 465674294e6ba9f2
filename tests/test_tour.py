"""The tour plays from a clone, prints one table and writes a page that needs nothing else."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")


@pytest.mark.slow
def test_the_quick_tour(tmp_path):
    output = tmp_path / "page" / "index.html"
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tour"), "--quick", "--output", str(output)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for package in ("lowrank: ", "seqsolve: ", "density: "):
        assert package in done.stdout
    assert "the same photo, byte for byte" in done.stdout
    assert "NOT" not in done.stdout
    assert "WRONG" not in done.stdout
    page = output.read_text()
    assert page.count('src="data:image/') >= 12
    addresses = re.findall(r"(?:src|href)=\"(?!data:)([^\"]*)", page)
    assert addresses == []
