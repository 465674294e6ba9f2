"""What the pictures show, on the Axes that were given; pivots and pooled images beside plain references."""

import io
import sys

import numpy as np
import pytest
import scipy.sparse

import lowrank as lr
from lowrank import gallery
from lowrank.operands import as_operand
from lowrank.pivots import pivots
from lowrank.pooling import pooled

pytest.importorskip("matplotlib")


def results(rng):
    A = gallery.polynomial_decay(60, 40, rng=rng)
    X = rng.standard_normal((60, 2))
    return A, {
        "column": lr.column_id(A, rank=6, rng=7),
        "row": lr.row_id(A, rank=6, rng=7),
        "cur": lr.cur(A, rank=6, oversample=2, rng=7),
        "two sided": lr.two_sided_id(A, rank=6, rng=7),
        "nystrom": lr.nystrom(lr.GaussianKernel(1.0), X, rank=6, rng=7),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_pivots_are_distances_from_the_span_of_those_before(rng, dtype, scale):
    C = rng.standard_normal((30, 5)).astype(dtype) * np.dtype(dtype).type(scale)
    found = pivots(C)
    for j in range(5):
        Q = np.linalg.qr(C[:, :j] / scale)[0] if j else np.zeros((30, 1))
        c = C[:, j] / scale
        np.testing.assert_allclose(found[j] / scale, np.linalg.norm(c - Q @ (Q.conj().T @ c)), rtol=1e-4)


def test_pivots_of_extreme_and_empty_columns():
    np.testing.assert_allclose(pivots(np.diag([1e300, 1e-5, 1e-300])), [1e300, 1e-5, 1e-300])
    assert pivots(np.zeros((4, 2))).tolist() == [0, 0]
    assert pivots(np.zeros((4, 0))).shape == (0,)
    assert pivots(scipy.sparse.csc_array(np.diag([3.0, 4.0]))).tolist() == [3, 4]


@pytest.mark.parametrize("kind", ["column", "row", "cur", "two sided", "nystrom"])
def test_decay_shows_the_pivots_and_the_certificate(rng, kind):
    from matplotlib.figure import Figure

    A, found = results(rng)
    f = found[kind]
    ax = Figure().add_subplot()
    assert f.plot_decay(ax=ax) is ax
    lines = {line.get_label(): line.get_data() for line in ax.get_lines()}
    what = {"row": "row", "nystrom": "landmark"}.get(kind, "column")
    x, y = lines[f"pivot of each {what}"]
    assert x.tolist() == [1, 2, 3, 4, 5, 6]
    whole = 60.0 if kind == "nystrom" else np.linalg.norm(A)
    spread = 1e-12 if kind == "nystrom" else 0.7  # the norm of A is known from ten probes
    np.testing.assert_allclose(y, f.pivots / whole, rtol=spread)
    assert ax.get_yscale() == "log"
    (level,) = [line for name, line in lines.items() if name.startswith("error") and "as many" not in name]
    assert level[1][0] == f.certificate.estimate
    if kind == "nystrom":
        error = lines["error after as many landmarks"][1]
        assert error[-1] == pytest.approx(f.trace_error)
        assert np.all(np.diff(error) < 0)


def test_decay_of_exact_empty_and_zero_results(rng):
    A = gallery.exact_rank(40, 30, 3, rng=rng)
    for f in (
        lr.column_id(A, rank=5, rng=7),
        lr.column_id(A, rank=0, rng=7),
        lr.column_id(0 * A, rank=2, rng=7),
        lr.nystrom(np.ones((9, 9)), rank=3, rng=7),
        lr.nystrom(np.zeros((9, 9)), rank=3, rng=7),
    ):
        ax = f.plot_decay()
        ax.figure.savefig(io.BytesIO(), format="png")
    with pytest.raises(TypeError, match="a ndarray has no pivots; pass the result of column_id"):
        lr.plot_decay(A)


def test_error_against_rank_is_above_the_optimum(rng):
    A = gallery.polynomial_decay(60, 40, rng=rng)
    ax = lr.plot_error_against_rank(A, ranks=[8, 2, 4], rng=7)
    (best,) = [line for line in ax.get_lines() if line.get_label() == "optimum (SVD)"]
    s = gallery.polynomial_spectrum(40)
    expected = [gallery.optimal_error(s, k) / np.linalg.norm(s) for k in (2, 4, 8)]
    np.testing.assert_allclose(best.get_ydata(), expected)
    (bars,) = ax.containers
    x, errors = bars.lines[0].get_data()
    assert x.tolist() == [2, 4, 8]
    assert np.all(errors > 0.5 * best.get_ydata())
    assert np.all(np.diff(errors) < 0)
    wide = lr.plot_error_against_rank(gallery.polynomial_decay(1500, 1100, basis="cheap", rng=rng), ranks=[3], rng=7)
    assert "optimum (SVD)" not in wide.get_legend_handles_labels()[1]
    assert lr.plot_error_against_rank(np.zeros((5, 5)), rng=7).get_yscale() == "log"
    with pytest.raises(ValueError, match=r"A has shape \(0, 3\); there is no rank to try"):
        lr.plot_error_against_rank(np.zeros((0, 3)))


@pytest.mark.parametrize("kind", ["column", "row", "cur", "two sided", "nystrom"])
def test_picked_marks_rows_and_columns(rng, kind):
    A, found = results(rng)
    f = found[kind]
    B = f.to_dense() if kind == "nystrom" else A
    ax = f.plot_picked(B)
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), np.abs(B))
    columns = {"row": None, "nystrom": getattr(f, "landmarks", None)}.get(kind, getattr(f, "columns", None))
    columns = f.indices if kind == "column" else columns
    rows = {"row": getattr(f, "indices", None), "column": None}.get(kind, getattr(f, "rows", columns))
    marks = [collection.get_segments() for collection in ax.collections]
    expected = [list(J) for J in (columns, columns, rows, rows) if J is not None]
    across = [0 if abs(m[0][0, 0] - m[0][1, 0]) < 1e-9 else 1 for m in marks]
    assert [[s[0, axis] for s in m] for m, axis in zip(marks, across)] == expected
    assert sorted(across) == across
    ax.figure.savefig(io.BytesIO(), format="png")
    with pytest.raises(ValueError, match="but the factorisation has"):
        f.plot_picked(np.ones((3, 3)))


def test_picked_refuses_what_it_cannot_show():
    with pytest.raises(TypeError, match="result is a ndarray"):
        lr.plot_picked(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="there is nothing to show"):
        lr.column_id(np.zeros((0, 3)), rank=0).plot_picked(np.zeros((0, 3)))
    f = lr.column_id(np.eye(3), rank=1, rng=7)
    with pytest.raises(ValueError, match="pixels=0; pass a positive integer"):
        f.plot_picked(np.eye(3), pixels=0)
    with pytest.raises(ValueError, match="NaN or inf"):
        f.plot_picked(np.full((3, 3), np.nan))


@pytest.mark.parametrize("shape", [(7, 5), (100, 33), (31, 64), (1, 90), (90, 1)])
def test_pooled_is_the_largest_modulus_of_each_block(rng, shape):
    A = rng.standard_normal(shape) * (rng.random(shape) < 0.3)
    m, n = shape
    high, wide = min(m, 20), min(n, 20)
    expected = np.zeros((high, wide))
    for i in range(m):
        for j in range(n):
            p, q = i * high // m, j * wide // n
            expected[p, q] = max(expected[p, q], abs(A[i, j]))
    for kind in (A, np.asfortranarray(A), scipy.sparse.csr_array(A), scipy.sparse.csc_array(A)):
        operand = as_operand(kind)
        np.testing.assert_array_equal(pooled(operand, 20), expected)
        assert operand.entries_read == operand.size


def test_without_matplotlib_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib; run: pip install 'triskele\[plot\]'"):
        lr.column_id(np.eye(3), rank=1, rng=7).plot_decay()


def test_shades_are_logarithmic_where_linear_ones_would_show_nothing():
    from matplotlib.colors import LogNorm

    norms = [
        type(lr.column_id(A, rank=1, rng=7).plot_picked(A).images[0].norm) is LogNorm
        for A in (np.ones((4, 4)), np.diag(10.0 ** -np.arange(9)), np.zeros((4, 4)))
    ]
    assert norms == [False, True, False]
