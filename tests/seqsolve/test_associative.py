"""associative_scan beside the loop, for operations that do not commute; gradients, transforms, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import jvp, vmap

import seqsolve as sq

from .test_scan import problem


def loop(op, elements, reverse=False):
    """The definition, with time first."""
    rows = [tuple(x[t : t + 1] for x in elements) for t in range(len(elements[0]))]
    rows = rows[::-1] if reverse else rows
    out = rows[:1]
    for row in rows[1:]:
        out.append(op(out[-1], row))
    return tuple(torch.cat(column) for column in zip(*(out[::-1] if reverse else out), strict=True))


def affine(p, q):
    return q[0] @ p[0], (q[0] @ p[1][..., None])[..., 0] + q[1]


@given(st.integers(1, 70), st.booleans(), st.integers(1, 2**32 - 1))
def test_it_is_the_loop(T, reverse, seed):
    rng = np.random.default_rng(seed)
    A, b = torch.from_numpy(0.6 * rng.standard_normal((T, 2, 2))), torch.from_numpy(rng.standard_normal((T, 2)))
    found = sq.associative_scan(affine, (A, b), reverse=reverse)
    for mine, theirs in zip(found, loop(affine, (A, b), reverse), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    if not reverse:
        torch.testing.assert_close(found[1], sq.affine_scan(A, b, structure="dense"), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 40), st.integers(1, 2**32 - 1))
def test_words_come_out_in_order(T, seed):
    """Intervals [left, right] joined: not commutative, and every prefix is known."""
    at = torch.arange(T)
    left, right = sq.associative_scan(lambda p, q: (p[0], q[1]), (at, at))
    assert left.tolist() == [0] * T
    assert right.tolist() == list(range(T))
    left, right = sq.associative_scan(lambda p, q: (p[0], q[1]), (at, at), reverse=True)
    assert left.tolist() == [T - 1] * T
    assert right.tolist() == list(range(T))


def test_trees_axes_and_array_kinds(rng):
    x = rng.standard_normal((3, 9, 2))

    def op(p, q):
        return {"sum": p["sum"] + q["sum"], "most": [torch.maximum(p["most"][0], q["most"][0])]}

    found = sq.associative_scan(op, {"sum": x, "most": [x]}, dim=1)
    np.testing.assert_allclose(found["sum"], np.cumsum(x, 1), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(found["most"][0], np.maximum.accumulate(x, 1))
    assert isinstance(sq.associative_scan(op, {"sum": x, "most": [torch.from_numpy(x)]}, dim=1)["sum"], torch.Tensor)
    back = sq.associative_scan(torch.add, torch.from_numpy(x), dim=-1, reverse=True)
    torch.testing.assert_close(back, torch.from_numpy(x).flip(-1).cumsum(-1).flip(-1))
    for dtype in (np.int64, np.bool_, np.uint8):
        y = rng.integers(0, 2, 13).astype(dtype)
        assert sq.associative_scan(lambda p, q: p | q, y).dtype == dtype
    with pytest.raises(ValueError, match="which differ along dim=0"):
        sq.associative_scan(op, {"sum": x, "most": [x[:2]]})


@pytest.mark.parametrize("T", [0, 1, 2, 3])
def test_short_series(T):
    x = torch.arange(1.0, T + 1)
    assert torch.equal(sq.associative_scan(torch.add, x), x.cumsum(0))
    assert torch.equal(sq.associative_scan(torch.add, x.half()), x.half().cumsum(0))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_gradients_and_transforms(rng):
    A, b, _ = (torch.from_numpy(x) for x in problem(rng, "dense", 6, np.float64, (2,)))

    def f(A, b):
        return sq.associative_scan(affine, (A, b))[1]

    leaves = (A.clone().requires_grad_(), b.clone().requires_grad_())
    assert torch.autograd.gradcheck(f, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, leaves)
    batch = torch.stack([A, 2 * A])
    torch.testing.assert_close(vmap(f, (0, None))(batch, b)[1], f(2 * A, b))
    tangent = jvp(lambda b: f(A, b), (b,), (b,))[1]
    torch.testing.assert_close(tangent, f(A, b))  # linear in b


def test_nan_stays_behind_its_step():
    x = torch.ones(40, dtype=torch.float64)
    x[17] = torch.nan
    assert sq.associative_scan(torch.add, x).isnan().nonzero().flatten().tolist() == list(range(17, 40))


@pytest.mark.parametrize(
    "op, elements, options, error, message",
    [
        (3, np.ones(3), {}, TypeError, "op is int; pass a function"),
        (torch.add, (), {}, ValueError, "elements holds no tensor"),
        (torch.add, np.ones(3), {"dim": 1}, ValueError, r"dim=1 is not an axis of an element of shape \(3,\)"),
        (torch.add, "words", {}, TypeError, "element 0 is str"),
        (lambda p, q: (p, q), np.ones(3), {}, ValueError, "op returned the structure"),
        (lambda p, q: (p + q).sum(0, keepdim=True), np.ones((5, 2)), {}, ValueError,
         r"op returned \(1, 2\) of torch.float64 for an element of shape \(2, 2\) of torch.float64"),
        (lambda p, q: (p + q).float(), np.ones((5, 2)), {}, ValueError, "of torch.float32 for an element"),
        (lambda p, q: 1.0, np.ones((5, 2)), {}, ValueError, "op returned float for an element"),
    ],
)  # fmt: skip
def test_what_it_refuses(op, elements, options, error, message):
    with pytest.raises(error, match=message):
        sq.associative_scan(op, elements, **options)
