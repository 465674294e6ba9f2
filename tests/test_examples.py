"""The examples run from a clone and say that what they compare is equal."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("matplotlib")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gated_delta", "min_gru"])
def test_the_character_model_trains_alike_in_every_form(tmp_path, kind):
    picture = tmp_path / "loss.png"
    script = ROOT / "examples" / "characters.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--kind", kind, "--output", str(picture)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    gap = re.search(r"largest difference of the losses: (\S+) nats", done.stdout)
    assert gap is not None
    assert float(gap[1]) < 1e-4
    assert "numbers, constant" in done.stdout
    first, last = re.search(r"by chunks: (\S+) -> (\S+) nats", done.stdout).groups()
    assert float(last) < float(first) < 4.7  # log 103 at the start
    assert picture.stat().st_size > 5000


@pytest.mark.slow
def test_the_transform_coder_writes_what_it_estimates_and_decodes_it(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    picture = tmp_path / "rate_distortion.png"
    script = ROOT / "examples" / "transform_coder.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--output", str(picture)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"step +(\d+)  (Fourier|Deep Factorized) +(\S+) dB  (\S+) bits a pixel written, (\S+) estimated .*, (.*)",
        done.stdout,
    )
    assert len(rows) == 4
    for _, name, psnr, written, estimated, state in rows:
        assert 20 < float(psnr) < 45
        assert name != "Fourier" or float(written) == pytest.approx(float(estimated), rel=1e-2)
        assert name != "Fourier" or state == "decoded exactly"
    coarse, fine = (row for row in rows if row[1] == "Fourier")
    assert float(coarse[3]) < float(fine[3])
    assert picture.stat().st_size > 20_000
