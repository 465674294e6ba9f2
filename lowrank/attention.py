"""Softmax attention by landmarks (Nystromformer): linear in the length, and its inverse is checked."""

import enum
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import check_choice
from ._tensors import is_tensor
from .certificate import Certificate
from .pseudoinverse import InverseStatus, PseudoInverse, pinv

METHODS = ("auto", "newton_schulz", "svd")
CUTS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # values of rcond that "auto" tries, beside sqrt(eps)
POOR = 0.5  # relative error at the probes above which the status warns


class AttentionStatus(enum.Enum):
    """How attention was computed; the value is what the user reads."""

    EXACT = "There are no fewer landmarks than tokens, so this is softmax attention itself."
    VERIFIED = "Attention by landmarks; all four Penrose residuals of the inverse between them are at rounding level."
    TRUNCATED = (
        "Attention by landmarks; small singular values between them were left out of the inverse on purpose, because "
        "they would magnify what the landmarks miss."
    )
    POOR = (
        "At the probes more than half of the attention is missed or made up. Take more landmarks, or exact attention; "
        "scores this large leave a softmax too sharp for means over segments."
    )


@dataclass(frozen=True, eq=False, repr=False)
class LandmarkAttention:
    """Attention made by `landmark_attention`.

    output : (..., n, p) tensor, differentiable;  landmarks : how many;  inverse : the `PseudoInverse` between them,
    None where attention is exact;  certificate : relative error against exact attention, None for ``probes=0``;
    status, seconds, choices, notes.
    """

    output: Any
    landmarks: int
    inverse: PseudoInverse | None
    certificate: Certificate | None
    status: AttentionStatus
    seconds: float
    choices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def explain(self) -> str:
        """What was computed, how well the inverse came out, and the error where it was measured."""
        shape = tuple(self.output.shape)
        lines = [
            f"attention {shape}, {self.output.dtype}, by {self.landmarks} landmarks",
            f"status: {self.status.value}",
        ]
        if self.inverse is not None:
            worst = float(self.inverse.residuals.max(initial=0.0))
            steps = f"{self.inverse.iterations} steps, " if self.inverse.iterations else ""
            lines.append(f"inverse: by {self.inverse.method}, {steps}largest Penrose residual {worst:.1e}")
        lines += [f"chosen: {choice}" for choice in self.choices]
        if self.certificate is not None:
            low, high = self.certificate.interval
            lines.append(
                f"relative error: {self.certificate.estimate:.3g}, about 95 % in [{low:.3g}, {high:.3g}] "
                f"({self.certificate.probes} queries)"
            )
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"work: {self.seconds:.3g} s"])

    def __repr__(self) -> str:
        return "<" + self.explain().replace("\n", "\n ") + ">"


def landmark_attention(
    Q, K, V, *, landmarks=64, mask=None, causal=False, scale=None, method="auto", rcond=None, probes=32, generator=None
) -> LandmarkAttention:
    r"""Softmax self-attention through the means of segments of the queries and keys.

    .. math:: \sigma(Q K^T) V \approx \sigma(Q \tilde K^T)\; \sigma(\tilde Q \tilde K^T)^+ \; \sigma(\tilde Q K^T) V

    with :math:`\sigma` the softmax of each row times `scale`, and row i of :math:`\tilde Q, \tilde K` the mean of the
    i-th of `landmarks` segments of the tokens that count.

    Parameters
    ----------
    Q, K : (..., n, d) torch tensors; float32, float64, or float16 and bfloat16, which are computed in float32.
    V : (..., n, p) torch tensor of the same leading dimensions.
    landmarks : segments; where a sequence has fewer tokens, each of its tokens is a landmark, and attention is exact.
    mask : boolean, True for the tokens that count and False for padding: (..., n), or (batch, n) for Q of shape
        (batch, heads, n, d). Outputs at padding are 0, and what stands there (NaN too) changes nothing.
    causal : not possible with landmarks; True raises and says why.
    scale : of the scores; None means ``1 / sqrt(d)``.
    method : of the inverse. "newton_schulz" iterates with products alone until it has converged, which is checked;
        "svd" leaves out singular values below `rcond` times the largest; "auto" is "svd" with the `rcond` of seven that
        has the least error at `probes` queries.
    rcond : for "svd"; None means ``sqrt(eps)``.
    probes : queries, drawn at random, at which exact attention is computed too: that many for "auto" to choose by, and
        as many others for the certificate. 0 for none; then "auto" takes ``rcond=0.03``.
    generator : torch.Generator for these draws; None means a fixed seed, so that equal inputs have equal outputs.

    Returns
    -------
    LandmarkAttention
        ``output`` has the dtype and device of V and is differentiable in Q, K and V: the inverse has its exact
        derivative, which needs no graph through the iteration.

    Raises
    ------
    TypeError
        For what is no torch tensor, or of another dtype.
    ValueError
        For shapes that do not fit, an entry that is not finite at a token that counts, or ``causal=True``.
    numpy.linalg.LinAlgError
        If ``method="newton_schulz"`` did not converge.

    Complexity
    ----------
    With m landmarks: 2 n m (2 d + 2 p + m) flops and 2 n m numbers for each head, beside about 2 log2(condition) + 8
    steps of 4 m^3 for the inverse. Exact attention takes 2 n^2 (d + p).

    References
    ----------
    Xiong, Zeng, Chakraborty, Tan, Fung, Li and Singh (2021), Nystromformer: a Nystrom-based algorithm for approximating
    self-attention, arXiv 2102.03902. It iterates six times, whatever is left, and adds a learned convolution of V; here
    convergence is checked, and the convolution is left to the user's module.

    Examples
    --------
    >>> import torch, lowrank as lr
    >>> x = torch.linspace(0, 1, 256, dtype=torch.float64)[:, None]
    >>> Q, K, V = torch.cos(3 * x), torch.sin(2 * x), torch.hstack([x, x**2])
    >>> f = lr.landmark_attention(Q, K, V, landmarks=8)
    >>> exact = torch.softmax(Q @ K.T, dim=-1) @ V
    >>> bool((f.output - exact).norm() < 1e-4 * exact.norm()), f.landmarks
    (True, 8)
    """
    began = time.perf_counter()
    import torch

    check_choice(method, METHODS, "method")
    _check(Q, K, V, landmarks, causal, probes)
    if rcond is not None and method != "svd":
        raise ValueError(f"rcond= goes with method='svd', not with {method!r}")
    dtype, wide = V.dtype, torch.float64 if V.dtype == torch.float64 else torch.float32
    lead, d = Q.shape[:-2], Q.shape[-1]
    keep = _tokens(mask, Q)
    if Q[..., 0].numel() == 0:
        seconds = time.perf_counter() - began
        return LandmarkAttention(torch.zeros_like(V), 0, None, None, AttentionStatus.EXACT, seconds)
    Q, K, V = (_cleaned(name, X, keep).to(wide) for name, X in (("Q", Q), ("K", K), ("V", V)))
    Q = Q * (1 / math.sqrt(max(d, 1)) if scale is None else scale)
    longest = int(keep.sum(-1).max()) if keep.numel() else 0
    notes = () if dtype == wide else (f"{dtype} was computed in {wide}.",)
    choices: tuple[str, ...] = ()
    chance = torch.Generator().manual_seed(0) if generator is None else generator
    deciding, judging = (_Probes.draw(Q, K, V, keep, int(probes), chance) for _ in range(2))
    if longest <= landmarks:
        output, inverse, status = _exact(Q, K, V, keep[..., None, :]), None, AttentionStatus.EXACT
    else:
        means, there = _segments(keep, int(landmarks), wide)
        q, k = means @ Q, means @ K  # the landmarks
        core = _softmax(q @ k.mT, there[..., None, :]) * there[..., :, None]
        core, right = core.expand(*lead, *core.shape[-2:]), _softmax(q @ K.mT, keep[..., None, :]) @ V
        left = _softmax(Q @ k.mT, there[..., None, :])
        if method == "auto":
            rcond = _cut(deciding, *(X.detach() for X in (left, core, right)))
            choices = (f"singular values below {rcond:.1g} of the largest left out, by the error at {probes} queries",)
        if method == "newton_schulz":
            inverse = pinv(core, method="newton_schulz")
        else:
            inverse = pinv(core, method="svd", rcond=torch.finfo(wide).eps ** 0.5 if rcond is None else rcond)
        output = left @ (inverse.matrix @ right)
        verified = inverse.status in (InverseStatus.VERIFIED, InverseStatus.ZERO)
        status = AttentionStatus.VERIFIED if verified else AttentionStatus.TRUNCATED
    output = output * keep[..., :, None]
    certificate = judging.certificate(output.detach()) if probes else None
    if certificate is not None and certificate.estimate > POOR:
        status = AttentionStatus.POOR
    return LandmarkAttention(
        output.to(dtype), min(int(landmarks), longest), inverse, certificate, status, time.perf_counter() - began,
        choices, notes,
    )  # fmt: skip


def _check(Q: Any, K: Any, V: Any, landmarks: Any, causal: bool, probes: Any) -> None:
    import torch

    known = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for name, X in (("Q", Q), ("K", K), ("V", V)):
        if not is_tensor(X):
            raise TypeError(f"{name} is a {type(X).__qualname__}; landmark_attention reads torch tensors")
        if X.dtype not in known:
            raise TypeError(f"{name} has dtype {X.dtype}; expected float16, bfloat16, float32 or float64")
        if X.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(X.shape)}; expected (..., tokens, features)")
    if Q.shape != K.shape or Q.shape[:-1] != V.shape[:-1]:
        raise ValueError(
            f"Q, K and V have shapes {tuple(Q.shape)}, {tuple(K.shape)} and {tuple(V.shape)}; expected (..., n, d), "
            "(..., n, d) and (..., n, p), since landmarks pair segments of the same tokens"
        )
    if causal:
        raise ValueError(
            "causal=True is not possible with landmarks: each is a mean over a segment, so every output would see "
            "later tokens through it. Use exact causal attention, as torch.nn.functional.scaled_dot_product_attention"
        )
    for name, value, least in (("landmarks", landmarks, 1), ("probes", probes, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name}={value!r} is not an integer")
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _tokens(mask: Any, Q: Any) -> Any:
    """(..., n) boolean with leading dimensions that broadcast against those of Q: the tokens that count."""
    import torch

    shape = tuple(Q.shape[:-1])
    if mask is None:
        return torch.ones(shape[-1:], dtype=torch.bool, device=Q.device)
    if not is_tensor(mask) or mask.dtype != torch.bool:
        kind = mask.dtype if is_tensor(mask) else type(mask).__qualname__
        raise TypeError(f"mask is {kind}; pass a boolean tensor, True for the tokens that count")
    keep = mask.to(Q.device)
    if 1 < keep.ndim < len(shape):
        keep = keep.reshape(*keep.shape[:-1], *(1,) * (len(shape) - keep.ndim), keep.shape[-1])
    try:
        fits = keep.shape[-1:] == shape[-1:] and torch.broadcast_shapes(tuple(keep.shape), shape) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, but Q has {tuple(Q.shape)}; expected (batch, n) or {shape}"
        )
    return keep


def _cleaned(name: str, X: Any, keep: Any) -> Any:
    """X with zeros in place of padding, finite everywhere."""
    X = X.masked_fill(~keep[..., :, None], 0.0)
    finite = X.isfinite()
    if not bool(finite.all()):
        where = tuple((~finite).nonzero()[0].tolist())
        place = ", ".join(map(str, where))
        raise ValueError(f"{name}[{place}] is {X[where].item()}; attention needs finite entries, so mask or mend them")
    return X


def _segments(keep: Any, m: int, dtype: Any) -> tuple[Any, Any]:
    """(..., m, n) means over segments of nearly equal counts of tokens, and (..., m) whether each has a token."""
    import torch

    rank = keep.long().cumsum(-1) - 1
    count = keep.sum(-1, keepdim=True)
    used = count.clamp(max=m)  # a shorter sequence has a landmark for each token
    segment = torch.where(keep, rank * used // count.clamp(min=1), m)
    member = segment[..., None, :] == torch.arange(m, device=keep.device)[:, None]
    size = member.sum(-1, keepdim=True)
    return member.to(dtype) / size.clamp(min=1), size[..., 0] > 0


def _softmax(scores: Any, keep: Any) -> Any:
    """Softmax of each row over the columns that count; a row without any is zero, and never NaN."""
    import torch

    found = torch.softmax(scores.masked_fill(~keep, torch.finfo(scores.dtype).min), dim=-1)
    return found * keep


def _exact(Q: Any, K: Any, V: Any, keep: Any) -> Any:
    return _softmax(Q @ K.mT, keep) @ V


def _cut(probes: "_Probes", left: Any, core: Any, right: Any) -> float:
    """The rcond of the least error at the probes: what landmarks miss is divided by the singular values that stay."""
    import torch

    if not len(probes.head):
        return 3e-2
    U, s, Vh = torch.linalg.svd(core)
    top, inner = probes.rows(left), (U.mT @ right).reshape(-1, core.shape[-1], right.shape[-1])[probes.head]
    top = (top[:, None, :] @ Vh.mT.reshape(-1, *core.shape[-2:])[probes.head])[:, 0]
    s = s.reshape(-1, s.shape[-1])[probes.head]
    best = (math.inf, 0.0)
    for rcond in (torch.finfo(core.dtype).eps ** 0.5, *CUTS):
        kept = s > rcond * s[:, :1]
        weight = torch.where(kept, 1 / torch.where(kept, s, 1.0), 0.0)
        found = ((top * weight)[:, None, :] @ inner)[:, 0]
        best = min(best, (float((found - probes.exact).square().sum()), rcond))
    return best[1]


@dataclass(frozen=True, eq=False)
class _Probes:
    """Random queries that count: (p,) which matrix of the batch, (p,) which of its rows, (p, c) exact attention."""

    head: Any
    row: Any
    exact: Any
    tokens: int

    @classmethod
    def draw(cls, Q: Any, K: Any, V: Any, keep: Any, count: int, generator: Any) -> "_Probes":
        import torch

        Q, K, V = Q.detach(), K.detach(), V.detach()
        lead, (n, d) = Q.shape[:-2], Q.shape[-2:]
        keep = keep.expand(*lead, n).reshape(-1, n)
        at = keep.reshape(-1).nonzero()[:, 0]
        tokens, count = len(at), count if len(at) else 0
        at = at[torch.randint(max(tokens, 1), (count,), generator=generator, device=generator.device).to(at.device)]
        head, row = at // max(n, 1), at % max(n, 1)
        scores = (K.reshape(-1, n, d)[head] @ Q.reshape(-1, n, d)[head, row][..., None])[..., 0]
        weights = _softmax(scores, keep[head])
        return cls(head, row, (weights[:, None, :] @ V.reshape(-1, n, V.shape[-1])[head])[:, 0], tokens)

    def rows(self, X: Any) -> Any:
        """(p, c) rows of a (..., n, c) tensor."""
        return X.reshape(-1, *X.shape[-2:])[self.head, self.row]

    def certificate(self, output: Any) -> Certificate:
        """Error at the probes over the norm there: a ratio of means, with the interval of its linearisation."""
        count = len(self.head)
        error = (self.rows(output) - self.exact).double().square().sum(-1).cpu().numpy()
        size = self.exact.double().square().sum(-1).cpu().numpy()
        mean = float(size.mean()) if count else 0.0
        if mean == 0.0:
            return Certificate(0.0, (0.0, 0.0), 0.0, count)
        ratio = float(error.mean()) / mean
        slip = 1.96 * float(np.std(error - ratio * size)) / mean / math.sqrt(max(count - 1, 1))
        estimate, total = math.sqrt(ratio), math.sqrt(mean * self.tokens)
        interval = math.sqrt(max(ratio - slip, 0.0)), math.sqrt(ratio + slip)
        return Certificate(estimate, interval, estimate * total, count)
