"""Batches: each matrix gets what it would get alone, and the parts stack."""

import numpy as np
import pytest
import torch

import lowrank as lr


def batch(rng, *shape):
    left, right = rng.standard_normal((*shape[:-1], 6)), rng.standard_normal((*shape[:-2], 6, shape[-1]))
    return torch.from_numpy(left @ right)


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.two_sided_id, lr.cur])
def test_each_matrix_gets_what_it_would_get_alone(rng, make):
    A = batch(rng, 2, 3, 60, 20)
    f = make(A, rank=6, rng=7)
    assert isinstance(f, lr.Batch)
    assert f.shape == (2, 3, 60, 20)
    assert f.batch == (2, 3)
    assert len(f) == 2
    assert torch.equal(f[1, 2].to_dense(), make(A[1, 2], rank=6, rng=7).to_dense())
    assert torch.equal(f[1][2].to_dense(), f[1, 2].to_dense())
    torch.testing.assert_close(f.to_dense(), A, rtol=0, atol=1e-9)
    assert [part.batch for part in f] == [(3,), (3,)]
    x = torch.from_numpy(rng.standard_normal(20))
    X = torch.from_numpy(rng.standard_normal((2, 3, 20, 4)))
    torch.testing.assert_close(f @ x, A @ x, rtol=0, atol=1e-8)
    torch.testing.assert_close(f @ X, A @ X, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="shapes do not fit: a batch"):
        f @ X[:1]
    assert "[1, 2]: " in f.explain()
    assert "<batch (2, 3) of" in repr(f)


def test_parts_stack_where_ranks_agree(rng):
    A = batch(rng, 3, 60, 20)
    f = lr.column_id(A, rank=4, rng=7)
    assert f.C.shape == (3, 60, 4)
    assert f.indices.shape == (3, 4)
    assert f.coefficients.shape == (3, 4, 20)
    assert len(f.status) == 3
    A[1] = 0
    g = lr.column_id(A, rank=4, rng=7)
    assert g[1].status is lr.Status.ZERO
    with pytest.raises(ValueError, match=r"parts of different shapes.*ranks differ; take them one by one"):
        g.C
    torch.testing.assert_close(g.to_dense()[1], A[1])


def test_pairs_of_batches_selections_and_certificates(rng):
    A, B = batch(rng, 3, 40, 20), batch(rng, 3, 20, 30)
    J = lr.select_columns(A, 4, rng=7)
    assert J.shape == (3, 4)
    c = lr.cr(A, B, 20)
    torch.testing.assert_close(c.to_dense(), A @ B, rtol=0, atol=1e-9)
    assert len(lr.certify(A, lr.column_id(A, rank=3, rng=7), rng=8)) == 3
    with pytest.raises(ValueError, match="their leading dimensions must agree"):
        lr.cr(A, B[:2], 5)
    with pytest.raises(ValueError, match="a batch without a matrix"):
        lr.column_id(A[:0], rank=3)


def test_arrays_of_more_dimensions_are_refused_as_before():
    with pytest.raises(ValueError, match="expected two dimensions"):
        lr.column_id(np.ones((2, 3, 4)), rank=1)
