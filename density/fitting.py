"""From samples to a density: sketch, map, nodes, certified maximum, order by AIC, map by held-out likelihood."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._checks import as_order, as_samples, as_support, as_weights, non_finite_message
from ._threads import blas_threads
from .fourier import FourierDensity, Tail
from .histogram import CELLS, HistogramSketch, natural_unit
from .likelihood import GAP_TOLERANCE, Certified, Circle, Maximum, certified_maximum, ranked_maximum, spectral_factor
from .maps import Map, candidates, check_map
from .mixture_map import MixtureMap, mixture_map
from .own_map import MonotoneMap, OwnMap, own_map
from .report import Candidate, FitReport, FitWarning, OrderStep, Status

_LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
_COARSE = (0, 2, 4, 8, 16, 32, 64, 128, 256)
_MINIMUM = 5
_SINGULAR = 6.0  # nats of all held-out data by which a map that is infinite at an end must beat the others
_WAVY = 16  # orders from which on a mixture of peaks is worth trying as a map
_RESIDUE = 32  # the highest order that such a map is judged with: what it leaves should be smooth
_RANK = 0.02  # orders and maps are ranked on likelihoods this exact, in nats of the whole data


AnyMap = Map | OwnMap | MixtureMap


@dataclass(frozen=True)
class Cells:
    """The data as a fit sees them: distinct values with their masses (sum 1), each spread over `width`."""

    centres: np.ndarray
    masses: np.ndarray
    n: float
    grid: float | None = None
    atoms: tuple[tuple[float, float], ...] = ()

    def quantile(self, q):
        """Quantiles, linear between the middles of the steps."""
        total = self.masses.cumsum()
        return np.interp(np.asarray(q, float) * total[-1], total - self.masses / 2, self.centres)

    @property
    def extent(self) -> tuple[float, float]:
        """Ends of the data with the room of one more sample (or half a rounding cell) on each side."""
        lo, hi = float(self.centres[0]), float(self.centres[-1])
        room = (hi - lo) / max(self.n - 1, 1) if self.grid is None else self.grid / 2
        return lo - room, hi + room

    def nodes(self, m: AnyMap, circle_nodes: int, periodic: bool, masses=None):
        """Linear binning of the image of the data to equispaced nodes of [0, 1]."""
        x, w = self.centres, self.masses if masses is None else masses
        if self.grid is not None:
            lo, hi = m.forward(x - self.grid / 2), m.forward(x + self.grid / 2)
            pieces = int(np.clip(np.ceil(2 * circle_nodes * np.max(hi - lo)), 1, 64))
            t = (np.arange(pieces) + 0.5) / pieces - 0.5
            x = (x[:, None] + self.grid * t).reshape(-1)
            w = np.repeat(w / pieces, pieces)
        u = m.forward(x) * circle_nodes
        left = np.minimum(u.astype(np.int64), circle_nodes - 1)
        part = u - left
        out = np.bincount(left, w * (1 - part), circle_nodes + 1) + np.bincount(left + 1, w * part, circle_nodes + 1)
        if periodic:
            out[0] += out[-1]
            return out[:-1]
        return out


def fit(
    x,
    weights=None,
    *,
    order: int | str = "auto",
    map: str | MonotoneMap = "auto",
    support=None,
    basis: str = "cosine",
    roughness: float = 0,
    workers: int | None = None,
) -> FourierDensity:
    """Maximum-likelihood Fourier density of one-dimensional samples, with a certificate that it is the maximum.

    ``max_a sum_i w_i log(|A(u_i)|^2 / ||a||^2)``, u = F(x): a problem whose stationary points are certified through
    ``gap_nats = log lambda_max(M)`` (see `density.likelihood`). The data enter through a `HistogramSketch`: up to
    131,072 distinct values exactly, more of them in cells that scale with the data.

    Parameters
    ----------
    x : array of real numbers of any shape, at least 5 and not all equal; or a HistogramSketch.
    weights : array of x's length, >= 0; n becomes the effective number (sum w)^2 / sum w^2.
    order : "auto" for the lowest AIC, or the highest frequency K (cosine: K free numbers, periodic: 2 K).
    map : "auto" for the best held-out likelihood, or "normal", "logistic", "laplace", "cauchy", "affine", "arcsine",
        "mixture"; on a half line "exponential", "loglogistic", "lognormal"; or an object with forward, inverse
        and log_derivative.
    support : (lo, hi) that is believed: no mass outside, no safety tail; one end may be infinite. The map is then
        "affine" or "arcsine", or one of the half line.
    basis : "cosine", or "periodic" for circular data of period support[1] - support[0].
    roughness : 0; the penalty on the integral of p'^2 is not built yet.
    workers : threads that count samples; None for all cores. The result does not depend on it.

    Returns
    -------
    FourierDensity

    Raises
    ------
    ValueError : NaN or infinite data, fewer than 5 samples, all samples equal, data outside `support`.

    Notes
    -----
    Time O(n) for the sketch, then O(m log m + K^3) a Newton step on m >= 16 K nodes, independent of n.

    References
    ----------
    De la Fuente, Singh, Balle (2024), arXiv:2402.15345.
    Papoulis (1977), Signal Analysis, section 7-3: the spectral factor of Kolmogorov.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> p = ds.fit(np.random.default_rng(7).normal(size=5000))
    >>> bool(abs(p.logpdf(0.0) + 0.919) < 0.05), p.gap_nats < 1e-6
    (True, True)
    """
    clock = time.perf_counter()
    K, support = as_order(order), as_support(support)
    kind = check_map(map) if isinstance(map, str) else "own"
    if basis not in ("cosine", "periodic"):
        raise ValueError(f"basis={basis!r} is not known; pass 'cosine' or 'periodic'")
    if roughness != 0:
        raise NotImplementedError(f"roughness={roughness!r} is not built yet; pass roughness=0")
    if basis == "periodic" and support is None and kind == "auto":
        raise ValueError("basis='periodic' needs the period of the data: pass support=(lo, hi), say (0, 2 * np.pi)")
    if basis == "periodic" and support is not None and np.isinf(support).any():
        raise ValueError(f"basis='periodic' needs a period; support=({support[0]:g}, {support[1]:g}) is not bounded")
    if basis == "periodic" and kind == "auto":
        kind = "affine"
    if kind == "own" and support is not None:
        raise ValueError("a map of your own has its support in inverse(0) and inverse(1); leave support out")
    cells = _cells(x, weights, workers)
    if support is not None and (cells.centres[0] < support[0] or cells.centres[-1] > support[1]):
        raise ValueError(
            f"the data run from {cells.centres[0]:.6g} to {cells.centres[-1]:.6g}, outside "
            f"support=({support[0]:g}, {support[1]:g}); widen it, or leave it out"
        )
    quartiles = cells.quantile([0.25, 0.5, 0.75])
    if kind == "own":
        maps = [own_map(map, cells.quantile)]
        support = maps[0].support if np.isfinite(maps[0].support).any() else None
    elif kind == "mixture":
        if support is not None:
            raise ValueError("map='mixture' covers the whole line, but support= was given; drop one")
        maps = [mixture_map(cells.centres, cells.masses, cells.n)]
    else:
        maps = candidates(kind, support=support, quartiles=quartiles, extent=cells.extent)
    believed = support is not None or basis == "periodic"
    tail = _safety_tail(cells, quartiles, 0.0 if believed else 2 / (cells.n + 10))
    with blas_threads(1):  # the matrices are small: more threads only wait for one another
        tried = _judge(cells, maps, tail, K, basis) if len(maps) > 1 else ()
        if kind == "auto" and not believed and max(tried, key=lambda c: c.held_out).order >= _WAVY:
            peaks = mixture_map(cells.centres, cells.masses, cells.n)
            maps, tried = [*maps, peaks], (*tried, *_judge(cells, [peaks], tail, K, basis))
        chosen = maps[int(np.argmax([c.held_out for c in tried]))] if tried else maps[0]
        best, path = _best_order(cells, chosen, K, basis)
    status = Status.CERTIFIED if best.gap_nats <= GAP_TOLERANCE else Status.UNCERTIFIED
    if status is Status.UNCERTIFIED:
        warnings.warn(
            f"the fit of order {len(best.a) - 1} is certified only to {best.gap_nats:.1e} nats; rounding stops Newton "
            "where the density has deep zeros. Try a lower order or another map.",
            FitWarning,
            stacklevel=2,
        )
    seconds = time.perf_counter() - clock
    report = FitReport(status, cells.n, tried, path, cells.grid, cells.atoms, best.gap_nats, seconds)
    return FourierDensity(basis, chosen, best.a, tail, chosen.n_parameters(support is not None), report)


def _cells(x, weights, workers) -> Cells:
    """Distinct values and masses of the data, rounding and atoms detected."""
    n_eff: float | None = None
    values = np.empty(0)
    if isinstance(x, HistogramSketch):
        if weights is not None:
            raise TypeError("weights= does not go with a HistogramSketch; pass them to its update")
        sketch = x
    else:
        values = as_samples(x)
        if not len(values):
            raise ValueError(f"x is empty; a density needs at least {_MINIMUM} samples")
        if weights is not None:
            weights = as_weights(weights, len(values))
            if not np.isfinite(values).all():
                raise ValueError(non_finite_message(values))
            values, weights = values[weights > 0], weights[weights > 0]
            weights = weights / weights.max()  # squares of tiny weights would vanish
            n_eff = float(weights.sum() ** 2 / (weights @ weights))
        sketch = _sketch(values, workers)
    n = sketch.n
    if n < _MINIMUM:
        raise ValueError(f"{n} samples are too few; a density needs at least {_MINIMUM}")
    centres, counts = sketch.centres, sketch.counts
    if len(centres) == 1:
        raise ValueError(
            f"all {n} samples equal {centres[0]:.6g}: a density does not exist; "
            "add the rounding noise that the data lost, or treat the value as a constant"
        )
    masses = counts / n
    if n_eff is not None:
        masses = np.bincount(sketch.cell_of(values), weights, len(centres))
        masses /= masses.sum()
    span = float(centres[-1]) - float(centres[0])
    if span < 1e-300:
        raise ValueError(f"the data span {span:.3g}, less than doubles divide with full precision; scale them up")
    if not np.isfinite(span):
        raise ValueError(f"the data span {centres[0]:.3g} to {centres[-1]:.3g}, more than a double holds; scale them")
    grid = _rounding(centres, n) if sketch.exact else None
    atoms = () if grid is not None else _atoms(centres, counts)
    if atoms:
        value, mass = max(atoms, key=lambda a: a[1])
        warnings.warn(
            f"the value {value:.6g} holds {mass:.1%} of the samples; a density cannot describe an atom, and the order "
            "will grow to imitate it: fit the other samples and keep the atom's mass apart",
            FitWarning,
            stacklevel=3,
        )
    return Cells(centres, masses, n if n_eff is None else n_eff, grid, atoms)


def _sketch(values, workers) -> HistogramSketch:
    """The values themselves where they are few, else cells that scale with them."""
    few = len(values) <= CELLS or len(np.unique(values[: 2 * CELLS])) <= CELLS
    sketch = HistogramSketch().update(values, workers=workers) if few else None
    if sketch is not None and sketch.exact:
        return sketch
    return HistogramSketch(unit=natural_unit(values)).update(values, workers=workers)


def _rounding(values, n: int) -> float | None:
    """The step of which all values are multiples (up to an offset), if ties show that they were rounded."""
    if len(values) > 0.9 * n:
        return None
    gaps = np.diff(values)
    step = float(gaps.min())
    if step <= 0 or (values[-1] - values[0]) / step > 1 << 22:
        return None
    # Differences of decimal numbers carry the rounding of the values themselves.
    slack = 4 * np.finfo(np.float64).eps * max(abs(values[0]), abs(values[-1])) / step + 1e-9
    multiples = (values - values[0]) / step
    if slack < 0.05 and np.abs(multiples - np.round(multiples)).max() > max(1e-6, slack * (1 + multiples[-1])):
        return None
    return float((values[-1] - values[0]) / np.round(multiples[-1])) if slack < 0.05 else None


def _atoms(values, counts) -> tuple[tuple[float, float], ...]:
    """Values that repeat although their neighbours do not: at least 1 % of the data and 20 times the typical count."""
    n = counts.sum()
    if len(values) < 20:
        return ()
    heavy = (counts >= 0.01 * n) & (counts >= 20 * max(np.median(counts), n / len(values)))
    return tuple((float(v), float(c / n)) for v, c in zip(values[heavy], counts[heavy]))


def _safety_tail(cells: Cells, quartiles, mass: float) -> Tail:
    lo, hi = cells.extent
    spread = float(quartiles[2] - quartiles[0])
    return Tail(mass, float(quartiles[1]), spread if spread > 1e-12 * (hi - lo) else (hi - lo) / 8)


def _nodes_for(order: int) -> int:
    """Twice the 16 K that linear binning needs, a power of two."""
    return 1 << int(np.ceil(np.log2(max(1024, 32 * order))))


def _circle(cells: Cells, m: AnyMap, order: int, basis: str, masses=None) -> Circle:
    return Circle(cells.nodes(m, _nodes_for(order), basis == "periodic", masses), basis)


def _highest(cells: Cells, m: AnyMap, n: float) -> int:
    """Orders beyond this are not tried: 3 sqrt(n) parameters overfit, and rounded data say nothing of finer waves.

    cos(K pi u) has the period 2 / K, so on cells of width du the highest frequency that the data determine is 1 / du.
    """
    top = min(512, 3 * np.sqrt(n) + 8)
    if cells.grid is not None:
        x, half = cells.centres, cells.grid / 2
        top = min(top, 1 / float(np.max(m.forward(x + half) - m.forward(x - half))))
    return max(int(top), 1)


def _promise(circle: Circle, K: int) -> float:
    """Likelihood of the spectral start, a lower bound for that of the fit and three FFTs cheap."""
    return circle.log_likelihood(spectral_factor(circle, circle.smoothed(K), K))


def _ascend(cells: Cells, m: AnyMap, orders, basis: str, masses=None, patience: int = 2):
    """Maxima up the ladder, each started from the one before where that is likelier, and the order of lowest AIC.

    Small orders are tried on few nodes; a larger circle is made only when the best order comes near its limit, or when
    the spectral start of a higher order already promises a lower AIC: a comb of 25 modes gains nothing below order 25.
    Likelihoods of different circles differ by their binning and are never compared.
    """
    n = cells.n if masses is None else float(masses.sum()) * cells.n
    cost = (2 if basis == "cosine" else 4) / n
    stages = [[k for k in orders if k <= top] for top in (64, 512) if top == 64 or orders[-1] > 64]
    for stage in stages:
        circle = _circle(cells, m, stage[-1], basis, masses)
        found: dict[int, Maximum] = {}
        aic = lambda k, f=found: -2 * f[k].log_likelihood + cost * k  # noqa: E731
        higher = {k: -2 * _promise(circle, k) + cost * k for k in stage}
        best, previous, risen = stage[0], None, 0
        for i, K in enumerate(stage):
            found[K] = ranked_maximum(circle, K, previous, precision=_RANK / n)
            previous = found[K].a
            if aic(K) <= aic(best):
                best, risen = K, 0
                continue
            risen += 1
            if risen >= patience and all(higher[k] >= aic(best) for k in stage[i + 1 :]):
                break
        beyond = [k for k in orders if k > stage[-1]]
        if not beyond:
            break
        wide = _circle(cells, m, beyond[-1], basis, masses)
        base = wide.log_likelihood(found[best].a)
        if best < 0.7 * stage[-1] and all(-2 * (_promise(wide, k) - base) + cost * (k - best) >= 0 for k in beyond):
            break
    return best, found, aic, circle


def _best_order(cells: Cells, m: AnyMap, K: int | None, basis: str) -> tuple[Certified, tuple[OrderStep, ...]]:
    per_order = 1 if basis == "cosine" else 2
    if K is not None:
        best = certified_maximum(_circle(cells, m, K, basis), K)
        step = OrderStep(K, best.log_likelihood, -2 * best.log_likelihood + 2 * per_order * K / cells.n)
        return best, (step,)
    top = _highest(cells, m, cells.n)
    best, found, aic, circle = _ascend(cells, m, [k for k in _LADDER if k <= top], basis, patience=3)
    below = max((k for k in found if k < best), default=best)
    above = min((k for k in found if k > best), default=best)
    # Bisect the two steps of the ladder that enclose the best order.
    while True:
        untried = [k for k in ((below + best) // 2, (best + above) // 2) if k not in found]
        if not untried:
            break
        for k in untried:
            start = max((j for j in found if j < k), default=None)
            found[k] = ranked_maximum(circle, k, None if start is None else found[start].a, precision=_RANK / cells.n)
        best = min(found, key=aic)
        below = max((k for k in found if k < best), default=best)
        above = min((k for k in found if k > best), default=best)
    path = tuple(OrderStep(k, found[k].log_likelihood, aic(k)) for k in sorted(found))
    return certified_maximum(circle, best, found[best].a), path


def _judge(cells: Cells, maps: Sequence[AnyMap], tail: Tail, K: int | None, basis: str) -> tuple[Candidate, ...]:
    """Held-out likelihood of every map: fit on two thirds of the samples, score on the rest.

    The counts are thinned by a generator of fixed seed, so the choice is a function of the sketch.
    """
    counts = cells.masses * cells.n
    rng = np.random.default_rng(20240215)
    whole = np.floor(counts)
    draw = rng.binomial((whole + (rng.random(len(counts)) < counts - whole)).astype(np.int64), 1 / 3)
    test = np.minimum(draw, counts)
    train = counts - test
    if test.sum() == 0 or np.count_nonzero(train) < 2:
        test = train = counts
    n_train, n_test = float(train.sum()), float(test.sum())
    judged = []
    for m in maps:
        if isinstance(m, MixtureMap):  # it has many parameters: judged on samples that none of them has seen
            m = m.refitted(cells.centres, train)
        if K is None:
            top = min(_highest(cells, m, n_train), _RESIDUE if isinstance(m, MixtureMap) else 256)
            best, found, _, _ = _ascend(cells, m, [k for k in _COARSE if k <= top], basis, train / cells.n)
        else:
            best = K
            found = {K: ranked_maximum(_circle(cells, m, K, basis, train / n_train), K, precision=_RANK / n_train)}
        density = FourierDensity(basis, m, found[best].a, tail, 2, FitReport(Status.CERTIFIED, n_train))
        seen = test > 0
        x = cells.centres[seen]
        score = float(test[seen] @ np.maximum(density._log_pdf(x), -745.0)) / n_test
        if m.singular:
            score -= _SINGULAR / n_test
        judged.append(Candidate(m.kind, m.scale, best, score))
    return tuple(judged)
