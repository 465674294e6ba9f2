"""From samples to a density: sketch, maps, nodes, map and order by AIC, certified maximum."""

import time
import warnings
from functools import partial

import numpy as np

from ._checks import as_nan_policy, as_order, as_roughness, as_support
from ._threads import blas_threads
from .cells import MINIMUM, Cells, cells
from .choice import best_order
from .contest import Contest
from .entrants import entrants
from .fourier import FourierDensity, Tail
from .likelihood import GAP_TOLERANCE
from .maps import candidates, check_map
from .mixture_map import mixture_map
from .own_map import MonotoneMap, own_map
from .polish import polished
from .report import FitReport, FitWarning, Status


def fit(
    x,
    weights=None,
    *,
    order: int | str = "auto",
    map: str | MonotoneMap = "auto",
    support=None,
    basis: str = "cosine",
    roughness: float | str = 0,
    workers: int | None = None,
    nan_policy: str = "raise",
) -> FourierDensity:
    """Maximum-likelihood Fourier density of one-dimensional samples, with a certificate that it is the maximum.

    ``max_a sum_i w_i log(|A(u_i)|^2 / ||a||^2)``, u = F(x): a problem whose stationary points are certified through
    ``gap_nats = log lambda_max(M)`` (see `density.likelihood`). The data enter through a `HistogramSketch`: up to
    131,072 distinct values exactly, more of them in cells that scale with the data.

    Parameters
    ----------
    x : array of real numbers of any shape, at least 5 and not all equal; or a HistogramSketch, or what its `update`
        takes: zarr, h5py, a dask array, an iterator of chunks, whose fit is that of their sketch.
    weights : array of x's length, >= 0; n becomes the effective number (sum w)^2 / sum w^2.
    order : "auto" or "aic" for the lowest AIC, "bic", "cv" for the best of five-fold cross-validation, or the highest
        frequency K itself (cosine: K free numbers, periodic: 2 K).
    map : "auto" for the lowest AIC3, or "normal", "logistic", "laplace", "cauchy", "affine", "arcsine",
        "mixture"; on a half line "exponential", "loglogistic", "lognormal"; or an object with forward, inverse
        and log_derivative.
    support : (lo, hi) that is believed: no mass outside, no safety tail; one end may be infinite. The map is then
        "affine" or "arcsine", or one of the half line.
    basis : "cosine", or "periodic" for circular data of period support[1] - support[0].
    roughness : gamma of the penalty ``gamma int_0^1 p'(u)^2 du`` on the mean log-likelihood; 0 for none, "auto" for the
        best of five-fold cross-validation up to 3000 samples, with twice the order where a penalty helps. An automatic
        order is chosen without it.
    workers : threads that count samples; None for all cores. The result does not depend on it.
    nan_policy : "raise", or "omit" to leave NaN and infinities out, with their weights. Masked entries of a masked
        array are always left out.

    Returns
    -------
    FourierDensity

    Raises
    ------
    ValueError : NaN or infinite data, fewer than 5 samples, all samples equal, data outside `support`.

    Notes
    -----
    Where at most 20,000 distinct samples were not rounded, the last Newton steps go over the samples themselves, and
    the certificate is that of their exact likelihood; `report.polish` says so.
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
    gamma, criterion = as_roughness(roughness), order if order in ("bic", "cv") else "aic"
    if basis == "periodic" and support is None and kind == "auto":
        raise ValueError("basis='periodic' needs the period of the data: pass support=(lo, hi), say (0, 2 * np.pi)")
    if basis == "periodic" and support is not None and np.isinf(support).any():
        raise ValueError(f"basis='periodic' needs a period; support=({support[0]:g}, {support[1]:g}) is not bounded")
    if basis == "periodic" and kind == "auto":
        kind = "affine"
    if kind == "own" and support is not None:
        raise ValueError("a map of your own has its support in inverse(0) and inverse(1); leave support out")
    data = cells(x, weights, workers, omit=as_nan_policy(nan_policy))
    if weights is not None and data.total < MINIMUM:
        warnings.warn(
            f"the weights leave an effective number of {data.total:.3g} samples, (sum w)^2 / sum w^2; "
            f"a density needs {MINIMUM}",
            FitWarning,
            stacklevel=2,
        )
    lo, hi = (f([end, *data.atoms.values]) for f, end in zip((min, max), data.ends))
    if support is not None and (lo < support[0] or hi > support[1]):
        raise ValueError(
            f"the data run from {lo:.6g} to {hi:.6g}, outside "
            f"support=({support[0]:g}, {support[1]:g}); widen it, or leave it out"
        )
    quartiles = data.quantile([0.25, 0.5, 0.75])
    if kind == "own":
        maps = [own_map(map, data.quantile)]
        support = maps[0].support if np.isfinite(maps[0].support).any() else None
    elif kind == "mixture":
        if support is not None:
            raise ValueError("map='mixture' covers the whole line, but support= was given; drop one")
        maps = [mixture_map(data.centres, data.masses, data.n)]
    else:
        maps = candidates(kind, support=support, quartiles=quartiles, extent=data.extent)
        if kind == "auto" and support is None:
            maps = [*maps, *entrants(data, quartiles)]
    believed = support is not None or basis == "periodic"
    tail = _safety_tail(data, quartiles, 0.0 if believed else 2 / (data.n + 10))
    with blas_threads(1):  # the matrices are small: more threads only wait for one another
        peaks = partial(mixture_map, data.centres, data.masses, data.n) if kind == "auto" and not believed else None
        tried = Contest(data, tail, K, basis).enter(maps, peaks)
        best_map = max(tried, key=lambda c: c.worth)
        chosen = best_map.map
        best, path, gamma = best_order(data, best_map, K, basis, criterion=str(criterion), roughness=gamma)
        best, polish = polished(data, chosen, basis, best, gamma)
    status = Status.CERTIFIED if best.gap_nats <= GAP_TOLERANCE else Status.UNCERTIFIED
    if status is Status.UNCERTIFIED:
        warnings.warn(
            f"the fit of order {len(best.a) - 1} is certified only to {best.gap_nats:.1e} nats; rounding stops Newton "
            "where the density has deep zeros. Try a lower order or another map.",
            FitWarning,
            stacklevel=2,
        )
    seconds = time.perf_counter() - clock
    atoms = tuple(zip(data.atoms.values, data.atoms.masses))
    candidates_ = tuple(c.candidate for c in tried) if len(tried) > 1 else ()
    report = FitReport(
        status, data.total, candidates_, path, data.grid, atoms, best.gap_nats, str(criterion), gamma, polish, seconds
    )
    return FourierDensity(basis, chosen, best.a, tail, chosen.n_parameters(support is not None), report, data.atoms)


def _safety_tail(data: Cells, quartiles, mass: float) -> Tail:
    lo, hi = data.extent
    spread = float(quartiles[2] - quartiles[0])
    return Tail(mass, float(quartiles[1]), spread if spread > 1e-12 * (hi - lo) else (hi - lo) / 8)
