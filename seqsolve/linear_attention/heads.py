"""Recurrences of a matrix state a head: what is forgotten, what is written, what is read."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import added_input, decay, like, sequences
from .matrix import MatrixParts
from .table import recurrence


def _elu(x: Tensor) -> Tensor:
    return F.elu(x) + 1


@recurrence(
    decay="S",
    update="f(k) v^T",
    read="f(q)^T S  [/ f(q)^T sum f(k)]",
    sample=lambda n: {"q": n.keys(), "k": n.keys(), "v": n.values()},
)
def linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    normalize: bool = False,
    feature_map: str | Callable[[Tensor], Tensor] | None = "elu",
):
    """Linear attention: softmax replaced by a feature map, so that the history fits into one matrix.

    ``S_t = S_{t-1} + f(k_t) v_t^T``, ``o_t = f(q_t)^T S_t``, divided by ``f(q_t)^T sum_j f(k_j)`` if normalised.

    Parameters
    ----------
    q : (B, H, T, dk) queries.
    k : (B, H, T, dk) keys; fewer heads of k and v are shared by groups.
    v : (B, H, T, dv) values.
    normalize : divide by the sum of the weights; the state then has one more column, which holds that sum.
    feature_map : "elu" for elu + 1, None for none, or a function of a tensor.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix, (B, H, dk, dv + 1) if normalised; float32 or float64.

    References
    ----------
    Katharopoulos, Vyas, Pappas and Fleuret (2020), arXiv:2006.16236, section 3.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> o, state = linear_attention.linear(ones, ones, ones, feature_map=None)
    >>> o.flatten().tolist(), float(state)
    ([1.0, 2.0, 3.0], 3.0)
    """
    q, k, v = sequences(q, k, v)
    if feature_map is not None and feature_map != "elu" and not callable(feature_map):
        raise ValueError(f"feature_map={feature_map!r} is unknown; pass 'elu', None or a function of a tensor")
    if feature_map is not None:
        f = _elu if feature_map == "elu" else feature_map
        q, k = f(q), f(k)  # type: ignore[operator]
    if not normalize:
        return MatrixParts(q, k, v), None
    return MatrixParts(q, k, F.pad(v, (0, 1), value=1.0)), lambda o: o[..., :-1] / o[..., -1:]


@recurrence(
    decay="gamma S",
    update="k v^T",
    read="q^T S",
    sample=lambda n: {"q": n.keys(), "k": n.keys(), "v": n.values()},
)
def retnet(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None):
    """Retention: linear attention that forgets at a constant rate a head.

    ``S_t = gamma S_{t-1} + k_t v_t^T``, ``o_t = q_t^T S_t``. The paper also rotates q and k by their positions:
    ``seqsolve.attention.rotary``.

    Parameters
    ----------
    q : (B, H, T, dk) queries.
    k : (B, H, T, dk) keys.
    v : (B, H, T, dv) values.
    log_decay : (H,) log gamma; None is the paper's ``gamma_h = 1 - 2**(-5 - h)``.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Sun, Dong, Huang, Ma, Xia, Xue, Wang and Wei (2023), arXiv:2307.08621, section 2.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> o, _ = linear_attention.retnet(ones, ones, ones, torch.tensor([math.log(0.5)]))
    >>> o.flatten().tolist()
    [1.0, 1.5, 1.75]
    """
    q, k, v = sequences(q, k, v)
    if log_decay is None:
        log_decay = torch.log1p(-(2.0 ** (-5 - torch.arange(k.shape[1], dtype=torch.float64))))
    return MatrixParts(q, k, v, decay(log_decay, k, vector=False)), None


@recurrence(
    decay="diag(w_t) S",
    update="k v^T",
    read="q^T S",
    sample=lambda n: {
        "q": n.keys(),
        "k": n.keys(),
        "v": n.values(),
        "log_decay": torch.log(n.uniform(n.B, n.H, n.T, n.dk)),
    },
)
def gla(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor):
    """Gated linear attention: each key feature forgets at its own rate, which the data decide.

    ``S_t = diag(w_t) S_{t-1} + k_t v_t^T``, ``o_t = q_t^T S_t``.

    Parameters
    ----------
    q : (B, H, T, dk) queries.
    k : (B, H, T, dk) keys.
    v : (B, H, T, dv) values.
    log_decay : (B, H, T, dk) log w, at most 0; -inf forgets the feature.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Yang, Wang, Shen, Panda and Kim (2024), arXiv:2312.06635, section 4.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> forget = torch.tensor([0.0, 0.0, -torch.inf])[None, None, :, None]
    >>> linear_attention.gla(ones, ones, ones, forget)[0].flatten().tolist()
    [1.0, 2.0, 1.0]
    """
    q, k, v = sequences(q, k, v)
    return MatrixParts(q, k, v, decay(log_decay, k, vector=True)), None


@recurrence(
    decay="diag(w_t) S",
    update="k v^T",
    read="q^T (S_before + diag(u) k v^T)",
    sample=lambda n: {
        "q": n.keys(),
        "k": n.keys(),
        "v": n.values(),
        "log_decay": -torch.exp(n.normal(n.B, n.H, n.T, n.dk)),
        "bonus": n.normal(n.H, n.dk),
    },
)
def rwkv6(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor):
    """RWKV-6 (Finch): decays that the data decide, and a bonus for the newest token, which is read before it is stored.

    ``o_t = q_t^T (S_{t-1} + diag(u) k_t v_t^T)``, ``S_t = diag(w_t) S_{t-1} + k_t v_t^T``.

    Parameters
    ----------
    q : (B, H, T, dk) receptance.
    k : (B, H, T, dk) keys.
    v : (B, H, T, dv) values.
    log_decay : (B, H, T, dk) log w, at most 0; constant (H, 1, dk) is RWKV-5.
    bonus : (H, dk), the u of the paper.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Peng et al. (2024), "Eagle and Finch", arXiv:2404.05892, section 4.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.rwkv6(ones, ones, ones, 0 * ones, torch.tensor([[5.0]]))[0].flatten().tolist()
    [5.0, 6.0, 7.0]
    """
    q, k, v = sequences(q, k, v)
    B, H, T, dk = k.shape
    u = like("bonus", bonus, k, H, dk, meaning="the weight of the newest token, (H, dk)", fixed=True)[:, None].expand(
        B, H, T, dk
    )
    return MatrixParts(q, k, v, decay(log_decay, k, vector=True), bonus=u), None


@recurrence(
    decay="(diag(w_t) - (a_t * n_t) n_t^T) S",
    update="k v^T",
    read="q^T S",
    sample=lambda n: {
        "q": n.keys(),
        "k": n.keys(),
        "v": n.values(),
        "log_decay": -0.6 * n.uniform(n.B, n.H, n.T, n.dk),
        "removal": n.keys(),
        "rate": n.uniform(n.B, n.H, n.T, n.dk),
    },
)
def rwkv7(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, removal: Tensor, rate: Tensor):
    """RWKV-7 (Goose): a decay a feature, and one direction of the state that is read and partly erased.

    ``S_t = (diag(w_t) - (a_t * n_t) n_t^T) S_{t-1} + k_t v_t^T``, ``o_t = q_t^T S_t``, n_t the removal key at unit
    length.

    Parameters
    ----------
    q : (B, H, T, dk) receptance.
    k : (B, H, T, dk) replacement keys.
    v : (B, H, T, dv) values.
    log_decay : (B, H, T, dk) log w, at most 0.
    removal : (B, H, T, dk) removal keys; normalised here.
    rate : (B, H, T, dk) a_t in (0, 1), the in-context learning rate.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Peng et al. (2025), "RWKV-7 Goose", arXiv:2503.14456, section 4.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.rwkv7(ones, ones, ones, 0 * ones, ones, 0.5 * ones)[0].flatten().tolist()
    [1.0, 1.5, 1.75]
    """
    q, k, v = sequences(q, k, v)
    n = F.normalize(like("removal", removal, k, *k.shape, meaning="removal keys, (B, H, T, dk)"), dim=-1)
    a = like("rate", rate, k, *k.shape, meaning="in-context learning rate in (0, 1), (B, H, T, dk)")
    return MatrixParts(q, k, v, decay(log_decay, k, vector=True), a=-a * n, b=n), None


@recurrence(
    decay="(I - beta_t k k^T) S",
    update="beta_t k v^T",
    read="q^T S",
    sample=lambda n: {
        "q": n.keys(),
        "k": F.normalize(n.keys(), dim=-1),
        "v": n.values(),
        "beta": n.uniform(n.B, n.H, n.T),
    },
)
def delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, *, unit_keys: bool = False):
    """The delta rule: what the state answers to a key is moved towards the key's new value.

    ``S_t = S_{t-1} + beta_t k_t (v_t - k_t^T S_{t-1})^T``, ``o_t = q_t^T S_t``.

    Parameters
    ----------
    q : (B, H, T, dk) queries.
    k : (B, H, T, dk) keys; bounded only while ``beta |k|^2 <= 2``.
    v : (B, H, T, dv) values.
    beta : (B, H, T) writing strengths.
    unit_keys : normalise q and k to unit length first.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Schlag, Irie and Schmidhuber (2021), arXiv:2102.11174; Yang et al. (2024), arXiv:2406.06484.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.delta(ones, ones, ones, torch.full((1, 1, 3), 0.5))[0].flatten().tolist()
    [0.5, 0.75, 0.875]
    """
    q, k, v = sequences(q, k, v)
    if unit_keys:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    strength = like("beta", beta, k, *k.shape[:3], meaning="writing strengths, (B, H, T)")[..., None]
    return MatrixParts(q, strength * k, v, a=-strength * k, b=k), None


@recurrence(
    decay="alpha_t (I - beta_t k k^T) S",
    update="beta_t k v^T",
    read="q^T S",
    sample=lambda n: {
        "q": n.keys(),
        "k": F.normalize(n.keys(), dim=-1),
        "v": n.values(),
        "beta": n.uniform(n.B, n.H, n.T),
        "log_decay": torch.log(n.uniform(n.B, n.H, n.T)),
    },
)
def gated_delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, *, unit_keys: bool = False):
    """The gated delta rule: forget everything a little, then correct what the key recalls.

    ``S_t = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T``, ``o_t = q_t^T S_t``.

    Parameters
    ----------
    q : (B, H, T, dk) queries.
    k : (B, H, T, dk) keys; bounded only while ``beta |k|^2 <= 2``.
    v : (B, H, T, dv) values.
    beta : (B, H, T) writing strengths.
    log_decay : (B, H, T) log alpha, at most 0.
    unit_keys : normalise q and k to unit length first.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Yang, Kautz and Hatamizadeh (2024), arXiv:2412.06464, section 3.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> q, k, v = torch.randn(3, 1, 2, 9, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    >>> beta = log_decay = torch.zeros(1, 2, 9)
    >>> forms = [
    ...     linear_attention.gated_delta(q, k, v, beta + 0.1, log_decay - 0.1, form=f)[0]
    ...     for f in ("step", "scan", "chunk")
    ... ]
    >>> torch.allclose(forms[0], forms[1], atol=1e-13), torch.allclose(forms[0], forms[2], atol=1e-13)
    (True, True)
    """
    q, k, v = sequences(q, k, v)
    if unit_keys:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    strength = like("beta", beta, k, *k.shape[:3], meaning="writing strengths, (B, H, T)")[..., None]
    log_alpha = decay(log_decay, k, vector=False)
    return MatrixParts(q, strength * k, v, log_alpha, a=-torch.exp(log_alpha) * strength * k, b=k), None


@recurrence(
    decay="exp(dt_t A) S",
    update="dt_t k v^T",
    read="q^T S + skip v",
    sample=lambda n: {
        "q": n.keys(),
        "k": n.keys(),
        "v": n.values(),
        "dt": n.uniform(n.B, n.H, n.T),
        "A": -torch.exp(n.normal(n.H)),
        "skip": n.normal(n.H, n.dv),
    },
)
def mamba2(q: Tensor, k: Tensor, v: Tensor, dt: Tensor, A: Tensor, skip: Tensor | None = None):
    """Mamba-2: a selective state-space model with one decay a head (state-space duality).

    ``S_t = exp(dt_t A) S_{t-1} + dt_t k_t v_t^T``, ``o_t = q_t^T S_t + skip * v_t``; in the paper's names q is C,
    k is B, v is x.

    Parameters
    ----------
    q : (B, H, T, dk) read-out C; one head may serve all.
    k : (B, H, T, dk) input map B; one head may serve all.
    v : (B, H, T, dv) inputs.
    dt : (B, H, T) step sizes, positive (after softplus).
    A : (H,) rates, negative.
    skip : (H, dv) feed-through, the D of the paper.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, dk, dv) matrix.

    References
    ----------
    Dao and Gu (2024), arXiv:2405.21060.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.mamba2(ones, ones, ones, ones[..., 0], torch.tensor([0.0]))[0].flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    q, k, v = sequences(q, k, v)
    H = k.shape[1]
    step = like("dt", dt, k, *k.shape[:3], meaning="step sizes, (B, H, T)")[..., None]
    rate = like("A", A, k, H, meaning="negative rates, (H,)", fixed=True)[:, None, None]
    parts = MatrixParts(q, step * k, v, step * rate)
    return parts, lambda o: added_input(o, skip, v, "feed-through, (H, dv)")
