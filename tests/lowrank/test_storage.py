"""Results in files: every kind comes back as it was, files of format 1 too, and what is no result says so."""

import json
import pickle

import numpy as np
import pytest
import scipy.sparse

import lowrank as lr
from lowrank import gallery, storage
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"


def results(rng, dtype=np.complex64):
    A = gallery.polynomial_decay(40, 40, rng=rng, dtype=dtype)
    B = A[:, :25]
    S = scipy.sparse.csr_array(np.where(np.abs(B) > np.abs(B).mean(), B, 0))
    return {
        "column": lr.column_id(B, rank=6, rng=7), "row": lr.row_id(B, rank=6, rng=7), "cur": lr.cur(B, rank=6, rng=7),
        "two": lr.two_sided_id(B, rank=6, rng=7), "nystrom": lr.nystrom(A @ A.conj().T, rank=6, rng=7),
        "cr": lr.cr(B, B.T, 6, method="greedy", weights="full"), "sparse": lr.cur(S, rank=6, rng=7),
        "transpose": lr.column_id(B, rank=6, rng=7).T, "adjoint": lr.cur(S, rank=6, rng=7).H,
        "spectral": lr.column_id(B, tol=0.1, norm="spectral", rng=7), "empty": lr.row_id(B, rank=0, rng=7),
        "kernel": lr.nystrom(lr.GaussianKernel(2.0), B.real, rank=6, rng=7),
    }  # fmt: skip


def test_what_is_saved_comes_back(rng, tmp_path):
    for kind, f in results(rng).items():
        path = f.save(tmp_path / kind)
        assert path.name == f"{kind}.npz"
        for g in (lr.load(path), lr.load(tmp_path / kind), pickle.loads(pickle.dumps(f))):
            assert type(g) is type(f)
            assert g.dtype == f.dtype
            assert np.array_equal(g.to_dense(), f.to_dense())
            assert repr(g) == repr(f)
            if hasattr(f, "record"):
                assert g.record == f.record
                assert np.array_equal(g.certificate.gram, f.certificate.gram)  # pyright: ignore
        again = lr.load(lr.load(path).save(tmp_path / "again"))
        assert np.array_equal(again.to_dense(), f.to_dense())


def test_a_result_from_a_file_takes_columns_as_the_one_in_memory_does(rng, tmp_path):
    A = gallery.polynomial_decay(60, 30, rng=rng)
    f = lr.column_id(A[:, :20], tol=0.1, rng=7)
    g = lr.load(f.save(tmp_path / "f"))
    one, other = (h.update(columns=A[:, 20:], tol=0.1, rng=8) for h in (f, g))
    assert np.array_equal(one.to_dense(), other.to_dense())
    assert one.certificate == other.certificate


@pytest.mark.parametrize("kind", ["column_id", "cur", "nystrom"])
def test_files_of_format_1_are_read(kind, tmp_path):
    """Written by the last commit before certificates kept what an update adds to."""
    path = GOLDEN / f"lowrank_format_1_{kind}.npz"
    with np.load(path) as file:
        meta = json.loads(str(file["__meta__"]))
    assert meta["format"] == 1
    assert "gram" not in json.dumps(meta)
    f = lr.load(path)
    A = np.round(1 / (1 + np.arange(12.0)[:, None] + 2 * np.arange(9.0)), 3)
    A = A * (A > 0.1) if kind == "cur" else A
    if kind == "nystrom":
        A = lr.GaussianKernel(0.5)(np.linspace(0, 1, 10)[:, None], np.linspace(0, 1, 10)[:, None])
    low, high = f.certificate.interval
    assert (f.shape, f.rank) == (A.shape, 3)
    assert f.status is lr.Status.RANK_REACHED
    error = f.relative_error(A, norm=f.certificate.norm)
    assert low * (1 - 1e-12) <= error <= high * (1 + 1e-12)
    assert scipy.sparse.issparse(getattr(f, "R", None)) == (kind == "cur")
    g = lr.load(f.save(tmp_path / "new"))  # and written anew in the format of today
    assert np.array_equal(g.to_dense(), f.to_dense())
    if kind == "column_id":
        with pytest.raises(ValueError, match="a file of format 1 does not keep what it adds to, so make that fact"):
            f.update(columns=A)


def test_a_newer_format_is_refused(tmp_path, rng, monkeypatch):
    assert storage.FORMAT == 2
    monkeypatch.setattr(storage, "FORMAT", 3)
    path = lr.column_id(rng.standard_normal((9, 5)), rank=2, rng=7).save(tmp_path / "new")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"new\.npz has format 3, but this version of lowrank reads up to 2; upgrade"):
        lr.load(path)


def test_files_that_are_not_ours(tmp_path, rng):
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    path = lr.column_id(rng.standard_normal((30, 20)), rank=2, rng=7).save(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:-200])
    metas = {"list": [1], "word": {"format": "x", "result": 1}, "class": {"format": 1, "result": {"class": "Foo"}},
             "field": {"format": 1, "result": {"class": "Certificate", "fields": {"wrong": 1}}},
             "array": {"format": 2, "result": {"array": "absent"}}}  # fmt: skip
    for name, meta in metas.items():
        np.savez(tmp_path / f"{name}.npz", __meta__=np.array(json.dumps(meta)))
    for name in ("other", "cut", *metas):
        with pytest.raises(ValueError, match=rf"{name}\.npz is not a result saved by lowrank, or it is damaged"):
            lr.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        lr.load(tmp_path / "missing")
