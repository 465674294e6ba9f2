"""The shell: what it prints, what it writes, and its exit codes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import density as ds
from density.__main__ import main
from tests.conftest import ROOT


@pytest.fixture
def files(tmp_path, rng):
    x = rng.normal(3, 2, 900)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x, y=x[:50])
    np.savez(tmp_path / "one.npz", x=x)
    np.savetxt(tmp_path / "named.csv", np.stack([x, -x], axis=1), delimiter=",", header="a,b", comments="")
    np.savetxt(tmp_path / "plain.csv", x)
    np.save(tmp_path / "ints.npy", rng.integers(-9, 9, (40, 50)).astype(np.int16))
    np.save(tmp_path / "few.npy", x[:3])
    (tmp_path / "x.txt").write_text("1 2 3")
    (tmp_path / "stored.tden").write_bytes(ds.fit(x, order=0, map="normal").to_bytes())
    np.save(tmp_path / "nan.npy", [1.0, np.nan])
    for name in ("empty.npz", "empty.safetensors", "stored.tdnz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "words.csv").write_text("a,b\nc,d\n")
    return tmp_path


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    "name, key", [("x.npy", None), ("xy.npz", "x"), ("one.npz", None), ("named.csv", "0"), ("plain.csv", None)]
)
def test_fit_reads_every_kind_of_file(files, capsys, name, key):
    options = [] if key is None else ["--key", key]
    code, out = run(capsys, "fit", files / name, "--json", "--map", "logistic", *options)
    p = ds.fit(np.load(files / "x.npy"), map="logistic")
    report = json.loads(out.out)
    assert code == 0
    assert report["samples"] == 900
    assert np.isclose(report["mean"], p.mean())
    assert np.isclose(report["quantile_0.5"], p.ppf(0.5))
    assert report["order"] == p.order


def test_fit_writes_a_density_that_info_reads(files, capsys):
    code, out = run(capsys, "fit", files / "x.npy", "--order", 3, "--map", "logistic", "-o", files / "x.tden")
    assert code == 0
    assert "logistic(loc=" in out.out
    p = ds.from_bytes((files / "x.tden").read_bytes())
    assert p == ds.fit(np.load(files / "x.npy"), order=3, map="logistic")
    code, out = run(capsys, "info", files / "x.tden", "--json")
    assert json.loads(out.out)["kind"] == "stored density"
    code, out = run(capsys, "fit", files / "x.npy", "--support", "-20", "inf", "--json")
    assert code == 0
    assert "is believed" in json.loads(out.out)["explanation"]


def test_nan_omit_leaves_them_out(files, capsys):
    x = np.load(files / "x.npy")
    np.save(files / "gaps.npy", np.concatenate([x, [np.nan, np.inf]]))
    code, out = run(capsys, "fit", files / "gaps.npy", "--map", "logistic", "--order", 3)
    assert code == 2
    assert "NaN" in out.err
    fast = ["--nan", "omit", "--map", "logistic", "--order", 3]
    code, out = run(capsys, "fit", files / "gaps.npy", *fast, "-o", files / "gaps.tden")
    assert code == 0
    assert ds.from_bytes((files / "gaps.tden").read_bytes()) == ds.fit(x, map="logistic", order=3)
    code, out = run(capsys, "eval", files / "gaps.npy", *fast, "--at", "3")
    assert float(out.out) == ds.fit(x, map="logistic", order=3).pdf(3.0)
    pytest.importorskip("matplotlib")
    assert run(capsys, "plot", files / "gaps.npy", *fast, "-o", files / "gaps.png")[0] == 0
    code, out = run(capsys, "plot", files / "gaps.tden", "--nan", "omit", "--kind", "qq", "--data", files / "gaps.npy")
    assert code == 0


@pytest.mark.parametrize(
    "name, options, error", [("ints.npy", [], 0), ("x.npy", ["--step", "0.01"], 0.005), ("x.npy", ["--lossless"], 0)]
)
def test_compress_and_decompress(files, capsys, name, options, error):
    code, out = run(capsys, "compress", files / name, "--json", *options)
    assert code == 0
    written = json.loads(out.out)["written"]
    assert written == str(files / name) + ".tdnz"
    code, out = run(capsys, "info", written)
    assert code == 0
    assert "compressed array" in out.out
    code, out = run(capsys, "decompress", written, "-o", files / "back.npy")
    assert code == 0
    x, y = np.load(files / name), np.load(files / "back.npy")
    assert y.dtype == x.dtype
    assert np.abs(y - x).max() <= error * (1 + 1e-12)


def test_compress_says_what_it_reached(files, capsys):
    _, out = run(capsys, "compress", files / "ints.npy", "--json", "--progress", "--workers", "2")
    report = json.loads(out.out)
    assert "value" in out.err
    assert report["bits_per_value"] == 8 * report["bytes"] / 2000
    assert 4 < report["entropy_bits"] < np.log2(18)
    assert report["lzma_over_ours"] > 0.9
    assert "bits a value, empirical entropy" in report["summary"]
    _, out = run(capsys, "compress", files / "x.npy", "--step", "0.01")
    assert "zlib 1." in out.out
    assert run(capsys, "info", files / "x.npy.tdnz", "--json")[0] == 0


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_several_arrays_become_one_file(files, capsys, suffix):
    path = files / f"xy.{suffix}"
    x = np.load(files / "x.npy")
    if suffix == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"x": x, "y": x[:50]}, path)
    code, out = run(capsys, "compress", path, "--step", "0.01", "-o", files / "xy.tdnz")
    assert code == 0
    _, out = run(capsys, "info", files / "xy.tdnz")
    assert "step 0.01" in out.out
    assert run(capsys, "decompress", files / "xy.tdnz", "-o", files / "back.npz")[0] == 0
    back = np.load(files / "back.npz")
    assert np.abs(back["x"] - x).max() <= 0.005
    assert len(back["y"]) == 50


def test_info_of_an_array(files, capsys):
    _, out = run(capsys, "info", files / "ints.npy", "--json")
    x = np.load(files / "ints.npy")
    report = json.loads(out.out)
    assert (report["least"], report["greatest"], report["shape"]) == (x.min(), x.max(), [40, 50])


def test_eval_of_data_and_of_a_stored_density(files, capsys):
    p = ds.fit(np.load(files / "x.npy"), order=3, map="logistic")
    (files / "x.tden").write_bytes(p.to_bytes())
    code, out = run(capsys, "eval", files / "x.tden", "--at", -1, 2, 1e9)
    assert code == 0
    assert [float(line) for line in out.out.split()] == p.pdf([-1, 2, 1e9]).tolist()
    options = ["--order", 3, "--map", "logistic", "--what", "ppf", "--json"]
    _, out = run(capsys, "eval", files / "x.npy", *options, "--at", 0.25, 1)
    assert json.loads(out.out) == {"what": "ppf", "count": 2, "values": [p.ppf(0.25), None]}  # JSON has no infinity
    np.save(files / "new.npy", np.linspace(0, 5, 40))
    _, out = run(
        capsys,
        "eval",
        files / "x.tden",
        "--what",
        "logpdf",
        "--points",
        files / "new.npy",
        "-o",
        files / "l.npy",
        "--json",
    )
    values = p.logpdf(np.linspace(0, 5, 40))
    assert np.array_equal(np.load(files / "l.npy"), values)
    assert json.loads(out.out)["mean"] == values.mean()


def test_samples_of_a_file(files, capsys):
    (files / "x.tden").write_bytes(ds.fit(np.load(files / "x.npy"), order=3, map="logistic").to_bytes())
    code, out = run(capsys, "sample", files / "x.tden", "-n", 5, "--seed", 7)
    p = ds.from_bytes((files / "x.tden").read_bytes())
    assert code == 0
    assert [float(line) for line in out.out.split()] == p.sample(5, rng=7).tolist()
    run(capsys, "sample", files / "x.tden", "-n", 5, "--seed", 7, "-o", files / "s.npy")
    assert np.array_equal(np.load(files / "s.npy"), p.sample(5, rng=7))
    assert run(capsys, "sample", files / "x.tden", "-n", 0)[1].out == ""


def test_plots_of_a_file(files, capsys):
    pytest.importorskip("matplotlib")
    (files / "x.tden").write_bytes(ds.fit(np.load(files / "x.npy"), order=3, map="logistic").to_bytes())
    fast = ["--map", "logistic", "--order", 3]
    for number, options in enumerate((
        ["x.npy", *fast, "--parts"], ["x.npy", *fast, "--kind", "certificate"],
        ["x.tden"], ["x.tden", "--kind", "qq", "--data", str(files / "x.npy")],
    )):  # fmt: skip
        target = files / f"{number}.png"
        assert run(capsys, "plot", files / options[0], *options[1:], "-o", target)[0] == 0
        assert target.read_bytes()[:4] == b"\x89PNG"
    _, out = run(capsys, "plot", files / "x.tden", "--json")
    assert json.loads(out.out) == {"written": str(files / "x.tden.png"), "kind": "density"}
    assert run(capsys, "plot", files / "x.tden", "--kind", "order")[0] == 2


MISUSE = [
    (["eval", "x.npy"], "pass either --at with numbers or --points"),
    (["eval", "x.npy", "--at", "1", "--points", "x.npy"], "pass either --at with numbers or --points"),
    (["eval", "x.npy", "--points", "absent.npy"], "there is no file absent.npy"),
    (["eval", "x.npy", "--what", "ppf", "--at", "2"], "ppf takes probabilities in [0, 1]"),
    (["eval", "x.npy", "--what", "mass", "--at", "2"], "invalid choice"),
    (["sample", "x.npy", "-n", "-2"], "must be integers >= 0"),
    (["sample", "x.npy", "-n", "many"], "invalid int value"),
    (["plot", "x.npy", "-o", "x.doc"], "is no picture that matplotlib writes; end it in one of"),
    (["plot", "stored.tden", "--kind", "qq"], "--kind qq compares with samples: pass --data"),
    (["sample", "stored.tden", "--map", "cauchy"], "stored.tden holds a density: --order, --map"),
    (["fit", "absent.npy"], "there is no file"),
    (["fit", "x.npy", "--order", "many"], "neither auto nor an integer"),
    (["fit", "x.npy", "--map", "gauss"], "--map gauss is not known"),
    (["compress", "x.npy"], "pass either --step or --lossless"),
    (["compress", "xy.npz"], "pass either --step or --lossless"),
    (["compress", "x.npy", "--step", "1", "--lossless"], "pass either --step or --lossless"),
    (["compress", "ints.npy", "--step", "1"], "leave --step and --lossless out"),
    (["fit", "x.npy", "-o", "nowhere/x.tden"], "there is no folder"),
    (["fit", "x.npy", "-o", "."], ". is a folder; name a file"),
    (["sample", "stored.tden", "--key", "x"], "stored.tden holds a density: --key is for arrays"),
    (["compress", "xy.npz", "--lossless", "--axis", "0"], "xy.npz holds 2 arrays; pass --key with one of them"),
    (["sample", "stored.tden", "--nan", "omit"], "stored.tden holds a density: --nan is for samples"),
    (["fit", "x.npy", "--nan", "drop"], "invalid choice"),
    (["frobnicate", "x.npy"], "invalid choice"),
    ([], "required"),
]


@pytest.mark.parametrize("arguments, message", MISUSE, ids=range(len(MISUSE)))
def test_misuse_ends_with_2(files, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


FAULTS = [
    (["fit", "few.npy"], "density fit: 3 samples are too few"),
    (["decompress", "x.npy"], "density decompress: not compressed by density"),
    (["fit", "words.csv"], "words.csv, line 2: 'c,d' is not numbers between commas"),
    (["fit", "x.txt"], "none of .npy, .npz, .csv"),
    (["fit", "xy.npz"], "holds 2 arrays; pass --key with one of ['x', 'y']"),
    (["plot", "stored.tden", "--data", "nan.npy"], "data holds 1 NaN"),
    (["plot", "stored.tden", "--kind", "order"], "keeps no path of orders"),
    (["compress", "empty.npz", "--lossless"], "empty.npz is damaged, or is no file of numpy.save"),
    (["compress", "empty.safetensors", "--lossless"], "empty.safetensors is not a file that safetensors can read"),
    (["info", "stored.tdnz"], "not compressed by density"),
]


@pytest.mark.parametrize("arguments, message", FAULTS, ids=range(len(FAULTS)))
def test_data_at_fault_end_with_one_sentence_and_2(files, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    if "safetensors" in arguments[1]:
        pytest.importorskip("safetensors")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (MemoryError(), 2)])
def test_what_ends_a_command_from_outside_is_no_traceback(files, capsys, monkeypatch, error, code):
    def ended(*_, **__):
        raise error

    monkeypatch.setattr(ds, "fit", ended)
    assert main(["fit", str(files / "x.npy")]) == code
    assert capsys.readouterr().err.startswith("density")


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "density", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "compress" in done.stdout


@pytest.mark.parametrize("line", ["info x.npy", "sample stored.tden -n 99999", "fit x.npy --json", "--help"])
def test_a_reader_that_has_seen_enough_is_no_failure(files, line):
    """As ``| head`` does: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "density", *line.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=files
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (said, process.returncode) == (b"", 0)
