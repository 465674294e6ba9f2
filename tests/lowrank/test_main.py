"""The shell: what it reads, prints and writes, and its exit codes."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import lowrank as lr
from lowrank import gallery
from lowrank.__main__ import main
from lowrank.files import read_matrix
from lowrank.spectrum import survey
from tests.conftest import ROOT


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    A = gallery.polynomial_decay(60, 40, rng=7)
    S = gallery.sparse_power_law(60, 40, rank=8, rng=7)
    np.save("A.npy", A)
    np.save("F.npy", np.asfortranarray(A))
    np.savez("two.npz", A=A, b=np.ones(3))
    np.savez("one.npz", A=A)
    np.savetxt("plain.csv", A, delimiter=",")
    np.savetxt("named.csv", A, delimiter=";", header=";".join("x" * 40), comments="")
    scipy.io.mmwrite("A.mtx", A, precision=17)
    scipy.sparse.save_npz("S.npz", S)
    scipy.io.mmwrite("S.mtx", S, precision=17)
    np.save("X.npy", gallery.smile(300))
    np.save("K.npy", gallery.smile_kernel(100))
    np.save("vector.npy", np.arange(5.0))
    np.save("nan.npy", np.where(np.arange(20).reshape(5, 4) == 11, np.nan, 1.0))
    np.save("objects.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    np.savez("objects.npz", A=np.array([[1, None]], dtype=object))
    np.save("half.npy", np.ones((4, 4), dtype=np.float16))
    for name, text in {
        "junk.npy": "junk", "junk.npz": "PK\x03\x04junk", "words.csv": "a,b\n1,2\n\n3,x\n", "ragged.csv": "1,2\n3\n",
        "empty.csv": "", "header.csv": "a,b\n",
        "junk.mtx": "%%MatrixMarket matrix coordinate real general\n2 2 1\n1 x 2\n",
        "A.txt": "1 2",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text, encoding="latin-1")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:900])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "A.npy").read_bytes()[:900])
    return A, S


def run(capsys, line):
    code = main(line.split())
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "name", ["A.npy", "F.npy", "two.npz --key A", "one.npz", "plain.csv", "named.csv", "A.mtx"], ids=str
)
def test_id_reads_every_kind_of_file(files, capsys, name):
    A, _ = files
    code, out, _ = run(capsys, f"id {name} --rank 6 --seed 7 --json")
    report = json.loads(out)
    f = lr.column_id(A, rank=6, rng=7)
    assert code == 0
    assert report["columns"] == f.indices.tolist()
    assert report["error"] == pytest.approx(f.certificate.estimate)
    assert (report["shape"], report["rank"], report["status"]) == ([60, 40], 6, "RANK_REACHED")


@pytest.mark.parametrize("name", ["S.npz", "S.mtx"])
def test_sparse_files_stay_sparse(files, capsys, name):
    _, S = files
    code, out, _ = run(capsys, f"cur {name} --rank 5 --seed 7 --json")
    g = lr.cur(S, rank=5, rng=7)
    assert code == 0
    assert json.loads(out)["columns"] == g.columns.tolist()
    assert json.loads(out)["rows"] == g.rows.tolist()
    assert hasattr(read_matrix(name), "nnz")


def test_npy_is_memory_mapped(files):
    assert isinstance(read_matrix("A.npy"), np.memmap)


def test_rows_tolerance_and_a_result_for_load(files, capsys):
    A, _ = files
    code, out, _ = run(capsys, "id A.npy --rows --tol 0.05 --seed 7 --output rows.npz --json --quality best")
    report = json.loads(out)
    assert (code, report["written"]) == (0, ["rows.npz"])
    f = lr.load("rows.npz")
    assert isinstance(f, lr.RowID)
    assert f.indices.tolist() == report["rows"]
    assert f.relative_error(A) <= 0.05


def test_nystrom_of_points_and_of_a_matrix(files, capsys):
    code, out, _ = run(capsys, "nystrom X.npy --bandwidth 2 --rank 20 --seed 7 --json")
    K = lr.nystrom(lr.GaussianKernel(2.0), np.load("X.npy"), rank=20, rng=7)
    assert code == 0
    assert json.loads(out)["landmarks"] == K.landmarks.tolist()
    assert json.loads(out)["kernel"] == "GaussianKernel(bandwidth=2.0)"
    code, out, _ = run(capsys, "nystrom X.npy --bandwidth 2 --kernel laplace --rank 5 --json")
    assert json.loads(out)["kernel"] == repr(lr.LaplaceKernel(2.0))
    code, out, _ = run(capsys, "nystrom K.npy --rank 9 --selection uniform")
    assert code == 0
    assert "rank          9" in out


@pytest.mark.parametrize("line", ["id A.npy", "cur S.npz", "nystrom X.npy --bandwidth 2"])
def test_plots(files, capsys, line):
    pytest.importorskip("matplotlib")
    code, _, err = run(capsys, f"{line} --rank 5 --plot out.png --progress")
    assert code == 0
    with open("out.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    assert re.search(r"\d/\d", err), "the bar stands on stderr"


def test_info(files, capsys):
    A, S = files
    code, out, _ = run(capsys, "info A.npy --json")
    report = json.loads(out)
    assert code == 0
    assert (report["shape"], report["dtype"], report["density"], report["bytes"]) == ([60, 40], "float64", 1.0, 19200)
    assert report["frobenius_norm"] == pytest.approx(np.linalg.norm(A))
    assert report["spectral_norm_estimate"] == pytest.approx(1.0, rel=1e-9)
    assert report["numerical_rank"] == 40
    s = gallery.polynomial_spectrum(40)
    needed = [next(k for k in range(41) if np.linalg.norm(s[k:]) <= tol * np.linalg.norm(s)) for tol in (0.1, 0.01)]
    assert [report["rank_for_error"][tol] for tol in ("0.1", "0.01")] == needed
    assert report["decay"].startswith("like j^-2 over 40")
    assert report["next"].startswith("python -m lowrank id A.npy --tol")
    _, out, _ = run(capsys, "info S.npz --json")
    report = json.loads(out)
    assert (report["kind"], report["numerical_rank"]) == ("sparse", 8)
    assert report["density"] == pytest.approx(S.nnz / 2400)
    assert "--rank 8" in report["next"]
    _, out, _ = run(capsys, "info K.npy")
    assert "python -m lowrank nystrom K.npy" in out
    assert "nothing: the matrix is empty or zero" in run(capsys, "info header.csv")[1]


def test_the_command_that_info_names_runs(files, capsys):
    for name in ("A.npy", "S.npz", "K.npy", "two.npz --key A"):
        _, out, _ = run(capsys, f"info {name} --json")
        words = json.loads(out)["next"].split("  #")[0].removeprefix("python -m lowrank ")
        assert main([*words.split(), "--json"]) == 0
        capsys.readouterr()


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_survey_of_large_matrices_and_scales(rng, scale):
    A = scale * gallery.exponential_decay(600, 200, scale=8.0, basis="cheap", rng=rng)
    found = survey(A, rng=7)
    s = gallery.exponential_spectrum(200, 8.0)
    assert found.norm == pytest.approx(scale * np.linalg.norm(s))
    assert 0.98 * scale * s[0] <= found.spectral <= scale * s[0] * (1 + 1e-12), "a lower bound, and near"
    for tol, k in found.ranks.items():
        best = next(k for k in range(201) if np.linalg.norm(s[k:]) <= tol * np.linalg.norm(s))
        assert abs(k - best) <= 2
    assert "exp(-j / " in found.decay
    assert survey(scale * gallery.flat(600, 200, basis="cheap", rng=rng), rng=7).ranks[0.1] is None
    assert survey(scale * gallery.exact_rank(600, 200, 12, basis="cheap", rng=rng), rng=7).rank == 12
    assert survey(np.diag([3.0, -1.0, 2.0])).semidefinite is False


WRONG = [
    ("id absent.npy --rank 2", "there is no file absent.npy"),
    ("id A.txt --rank 2", "A.txt is none of .npy, .npz, .mtx, .csv"),
    ("id A.npy", "pass --rank or --tol"),
    ("id A.npy --rank 2 --tol 0.1", "pass --rank or --tol, not both"),
    ("id A.npy --rank 41", "rank=41 exceeds min(A.shape)=40; pass rank<=40"),
    ("id A.npy --rank -1", "rank=-1 is negative"),
    ("id A.npy --tol 0", "tol=0.0 is not a positive finite number"),
    ("id nan.npy --rank 2", "A[2, 3] is nan"),
    ("info nan.npy", "A[2, 3] is nan"),
    ("id vector.npy --rank 1", "holds an array of shape (5,); expected a matrix"),
    ("cur two.npz --rank 1 --key b", "holds an array of shape (3,); expected a matrix"),
    ("id two.npz --rank 1", "holds 2 arrays; pass --key with one of A, b"),
    ("id two.npz --rank 1 --key c", "has no array 'c'; pass --key with one of A, b"),
    ("id A.npy --rank 1 --key A", "--key goes with a .npz file"),
    ("id junk.npy --rank 1", "junk.npy is not a .npy file, or it is damaged"),
    ("id cut.npy --rank 1", "cut.npy is not a .npy file, or it is damaged"),
    ("id junk.npz --rank 1", "junk.npz is not a .npz file, or it is damaged"),
    ("id cut.npz --rank 1", "cut.npz is not a .npz file, or it is damaged"),
    ("id junk.mtx --rank 1", "junk.mtx is not a Matrix Market file, or it is damaged"),
    ("id objects.npy --rank 1", "objects.npy holds pickled Python objects, which are not read"),
    ("id objects.npz --rank 1", "objects.npz holds pickled Python objects, which are not read"),
    ("id half.npy --rank 1", "A has dtype float16; expected float32"),
    ("id words.csv --rank 1", "words.csv, line 4: 'x' is not a number"),
    ("id ragged.csv --rank 1", "ragged.csv, line 2: 1 numbers, but the lines before have 2"),
    ("id empty.csv --rank 1", "empty.csv is empty"),
    ("id A.npy --rank 3 --selection none", "selection='none' is not available; pass one of 'auto'"),
    ("id A.npy --rank 3 --selection given", "--selection given needs the indices themselves"),
    ("id A.npy --rank 3 --workers 0", "--workers 0 is not a positive integer"),
    ("id A.npy --rank 3 --seed -1", "--seed -1 is negative"),
    ("id A.npy --rank 3 --output no/x.npz", "there is no folder no"),
    ("id A.npy --rank 3 --output x.txt", "x.txt should end in .npz"),
    ("id A.npy --rank 3 --plot x.gif", "x.gif should end in .png or .svg or .pdf"),
    ("nystrom A.npy --rank 3", "which is not square; pass --bandwidth if its rows are points"),
    ("nystrom X.npy --rank 3 --bandwidth -1", "bandwidth=-1.0 is not a positive finite number"),
    ("nystrom X.npy --rank 3 --bandwidth 1 --kernel square", "--kernel square is not known; pass one of"),
    ("nystrom K.npy --rank 3 --kernel laplace", "--kernel laplace needs --bandwidth"),
]


@pytest.mark.parametrize("line, message", WRONG, ids=[line for line, _ in WRONG])
def test_misuse_ends_with_2_and_one_sentence(files, capsys, line, message):
    code, out, err = run(capsys, line + " --json")
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith(f"lowrank {line.split()[0]}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("line, message", [("", "required"), ("frobnicate A.npy", "invalid choice"), ("id", "FILE")])
def test_an_unknown_command_ends_with_2(capsys, line, message):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_interruption_ends_with_130(files, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lr, "column_id", interrupted)
    code, out, err = run(capsys, "id A.npy --rank 3 --output x.npz")
    assert (code, out, err) == (130, "", "lowrank: interrupted; nothing was written\n")


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "lowrank", "id", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "python -m lowrank id A.npy --tol 1e-3 --json" in done.stdout


@pytest.mark.parametrize("line", ["info A.npy", "id A.npy --rank 3 --json", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(files, line):
    """As ``| head`` does: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "lowrank", *line.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (said, process.returncode) == (b"", 0)
