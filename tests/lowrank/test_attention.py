"""Attention by landmarks beside exact attention: error, masks, derivatives, bad input."""

import math
import re

import numpy as np
import pytest

import lowrank as lr

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of torch wait for each other over tensors as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smooth(seed=5, lead=(2, 3), n=120, d=8, scale=1.0, dtype=torch.float64):
    """Queries and keys that wander slowly, as neighbouring tokens do, and values without structure."""
    g = torch.Generator().manual_seed(seed)
    base = torch.randn(*lead, n, d, generator=g, dtype=torch.float64).cumsum(-2) / n**0.5
    K = scale * base + 0.05 * torch.randn(*lead, n, d, generator=g, dtype=torch.float64)
    V = torch.randn(*lead, n, 5, generator=g, dtype=torch.float64)
    return (scale * base).to(dtype), K.to(dtype), V.to(dtype)


def exact(Q, K, V, mask=None, scale=None):
    scores = Q @ K.mT * (Q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None, :], -math.inf)
    return torch.softmax(scores, -1) @ V


def distance(X, Y):
    return float((X - Y).norm() / Y.norm())


def test_more_landmarks_come_nearer_to_exact_attention():
    Q, K, V = smooth()
    errors = []
    for m in (4, 16, 60):
        f = lr.landmark_attention(Q, K, V, landmarks=m)
        assert isinstance(f, lr.LandmarkAttention)
        assert f.landmarks == m
        assert f.status in (lr.AttentionStatus.TRUNCATED, lr.AttentionStatus.VERIFIED)
        errors.append(distance(f.output, exact(Q, K, V)))
        assert f.certificate.estimate == pytest.approx(errors[-1], rel=0.6)
    assert errors[2] < errors[1] < errors[0] < 0.2
    assert errors[2] < 0.01


@pytest.mark.parametrize("method", ["auto", "svd", "newton_schulz"])
def test_it_is_the_formula(method):
    """Means of equal segments, and the pseudo-inverse by numpy."""
    Q, K, V = smooth(n=60, lead=(2,))
    f = lr.landmark_attention(Q, K, V, landmarks=6, method=method, scale=0.7)
    q, k = (X.reshape(2, 6, 10, 8).mean(-2) for X in (0.7 * Q, K))
    left, core, right = (torch.softmax(X @ Y.mT, -1) for X, Y in ((0.7 * Q, k), (q, k), (q, K)))
    cut = {"auto": 1e-4, "svd": np.finfo(float).eps ** 0.5, "newton_schulz": 1e-10}[method]
    expected = left.numpy() @ np.linalg.pinv(core.numpy(), rcond=cut) @ (right @ V).numpy()
    assert f.inverse.method == ("newton_schulz" if method == "newton_schulz" else "svd")
    if method != "auto":
        np.testing.assert_allclose(f.output.numpy(), expected, atol=1e-6)
    assert (f.inverse.residuals.max() < 1e-7) == (f.status is lr.AttentionStatus.VERIFIED)


def test_no_fewer_landmarks_than_tokens_is_exact():
    Q, K, V = smooth(n=30)
    f = lr.landmark_attention(Q, K, V, landmarks=30)
    assert f.status is lr.AttentionStatus.EXACT
    assert f.inverse is None
    assert distance(f.output, exact(Q, K, V)) < 1e-14
    assert f.certificate.interval[1] < 1e-14
    assert "softmax attention itself" in f.explain()


def test_a_short_sequence_in_a_long_batch_is_exact():
    """Each of its tokens is a landmark, and A A^+ A = A; the long one goes through the means."""
    Q, K, V = smooth(n=60)
    mask = torch.ones(2, 60, dtype=torch.bool)
    mask[0, 9:] = False
    f = lr.landmark_attention(Q, K, V, landmarks=12, mask=mask, method="svd", rcond=1e-13)
    whole = exact(Q, K, V, mask[:, None])
    assert distance(f.output[0, :, :9], whole[0, :, :9]) < 1e-6
    assert distance(f.output[1], whole[1]) > 1e-5
    assert (f.output[0, :, 9:] == 0).all()


@pytest.mark.parametrize("n", [3, 50])
def test_padding_changes_nothing_and_makes_no_nan(n):
    Q, K, V = smooth(n=n, lead=(3, 2))
    mask = torch.rand(3, n, generator=torch.Generator().manual_seed(7)) < 0.7
    mask[1] = False  # a sequence without any token
    mask[0, 0] = True
    f = lr.landmark_attention(Q, K, V, landmarks=6, mask=mask, method="svd")
    hole = ~mask[:, None, :, None]
    junk = [X.masked_fill(hole, math.nan) for X in (Q, K, V)]
    g = lr.landmark_attention(*junk, landmarks=6, mask=mask, method="svd")
    assert torch.equal(f.output, g.output)
    assert f.output.isfinite().all()
    assert (f.output[1] == 0).all()
    assert (f.output.masked_select(hole.expand_as(f.output)) == 0).all()
    kept = mask[0].nonzero()[:, 0]  # the same tokens without the padding between them
    alone = lr.landmark_attention(*(X[0][:, kept] for X in (Q, K, V)), landmarks=6, method="svd")
    torch.testing.assert_close(f.output[0][:, kept], alone.output, atol=1e-7, rtol=0)
    empty = lr.landmark_attention(Q, K, V, landmarks=6, mask=torch.zeros(3, n, dtype=torch.bool))
    assert (empty.output == 0).all()


@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_are_those_of_differences(masked):
    Q, K, V = (X.requires_grad_() for X in smooth(n=12, lead=(2,), d=3, scale=2.0))
    mask = torch.ones(2, 12, dtype=torch.bool)
    if masked:
        mask[0, 8:], mask[1] = False, False
    assert torch.autograd.gradcheck(
        lambda *X: lr.landmark_attention(*X, landmarks=3, mask=mask, method="svd", probes=0).output,
        (Q, K, V),
        fast_mode=True,
    )
    lr.landmark_attention(Q, K, V, landmarks=3, mask=mask).output.square().sum().backward()
    assert all(X.grad is not None and X.grad.isfinite().all() for X in (Q, K, V))
    if masked:
        assert (Q.grad[1] == 0).all()


def test_the_full_inverse_may_ruin_what_a_cut_one_keeps():
    """Sharp scores: singular values that are small divide what the landmarks miss. `auto` sees it on its probes."""
    Q, K, V = smooth(scale=3.0, n=200, d=16)
    whole = exact(Q, K, V)
    full, cut = (lr.landmark_attention(Q, K, V, landmarks=8, method=m) for m in ("newton_schulz", "auto"))
    assert distance(full.output, whole) > 1
    assert full.status is lr.AttentionStatus.POOR
    assert "Take more landmarks, or exact attention" in full.explain()
    assert distance(cut.output, whole) < 0.5
    assert "of the largest left out, by the error at 32 queries" in cut.explain()
    assert full.inverse.residuals.max() < 1e-6  # the inverse itself is right


def test_the_certificate_covers_the_error_about_as_often_as_it_says():
    """60 draws of 40 probes; a ratio of means covers near 95 %, and fewer than 45 of 60 at 90 % once in 10^3 runs."""
    Q, K, V = smooth(n=150, lead=())
    f = lr.landmark_attention(Q, K, V, landmarks=8, probes=0)
    assert f.certificate is None
    error = distance(f.output, exact(Q, K, V))
    g = torch.Generator().manual_seed(11)
    hits = 0
    for _ in range(60):
        c = lr.landmark_attention(Q, K, V, landmarks=8, method="svd", rcond=3e-2, probes=40, generator=g).certificate
        hits += c.interval[0] <= error <= c.interval[1]
    assert hits >= 45


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_formats(dtype):
    Q, K, V = smooth(dtype=dtype)
    f = lr.landmark_attention(Q, K, V, landmarks=20)
    assert f.output.dtype == dtype
    assert distance(f.output.double(), exact(Q.double(), K.double(), V.double())) < 0.05
    assert (f"{dtype} was computed in torch.float32." in f.notes) == (dtype != torch.float32)


def test_equal_inputs_have_equal_outputs_and_leave_the_global_generator_alone():
    Q, K, V = smooth()
    state = torch.get_rng_state()
    f, g = (lr.landmark_attention(Q, K, V, landmarks=9) for _ in range(2))
    assert torch.equal(f.output, g.output)
    assert f.certificate == g.certificate
    assert torch.equal(state, torch.get_rng_state())
    assert len(repr(f).splitlines()) <= 8


def test_bad_arguments():
    Q, K, V = smooth(n=20)
    call = lr.landmark_attention
    long = torch.ones(2, 21, dtype=torch.bool)
    broken = Q.clone()
    broken[1, 0, 4, 2] = math.inf
    for error, sentence, arguments, options in (
        (ValueError, "causal=True is not possible with landmarks: each is a mean over a segment", (Q, K, V),
         {"causal": True}),
        (TypeError, "Q is a ndarray; landmark_attention reads torch tensors", (Q.numpy(), K, V), {}),
        (TypeError, "V has dtype torch.int64; expected float16, bfloat16, float32 or float64", (Q, K, V.long()), {}),
        (ValueError, "expected (..., n, d), (..., n, d) and (..., n, p), since landmarks pair", (Q[:1], K, V), {}),
        (ValueError, "Q has shape (20,); expected (..., tokens, features)", (Q[0, 0, :, 0], K, V), {}),
        (ValueError, "Q[1, 0, 4, 2] is inf; attention needs finite entries, so mask or mend them", (broken, K, V), {}),
        (ValueError, "mask has shape (2, 21), but Q has (2, 3, 20, 8); expected", (Q, K, V), {"mask": long}),
        (TypeError, "mask is torch.float64; pass a boolean tensor", (Q, K, V), {"mask": long.double()}),
        (TypeError, "mask is list; pass a boolean tensor", (Q, K, V), {"mask": [True]}),
        (ValueError, "landmarks=0 must be at least 1", (Q, K, V), {"landmarks": 0}),
        (TypeError, "landmarks=2.5 is not an integer", (Q, K, V), {"landmarks": 2.5}),
        (ValueError, "probes=-1 must be at least 0", (Q, K, V), {"probes": -1}),
        (ValueError, "method='qr' is not available; pass one of 'auto', 'newton_schulz', 'svd'", (Q, K, V),
         {"method": "qr"}),
        (ValueError, "rcond= goes with method='svd', not with 'auto'", (Q, K, V), {"rcond": 0.1}),
        (np.linalg.LinAlgError, "The iteration did not reach the pseudo-inverse", (torch.cos(Q), torch.cos(Q), V),
         {"method": "newton_schulz", "landmarks": 19, "scale": 1e-3}),
    ):  # fmt: skip
        with pytest.raises(error, match=re.escape(sentence)):
            call(*arguments, **options)


def test_no_tokens_and_no_batch():
    for shape in ((0, 4), (2, 0, 4), (0, 5, 4)):
        X = torch.zeros(shape)
        assert lr.landmark_attention(X, X, X).output.shape == shape
