"""The Fourier density: a squared trigonometric polynomial, carried to the line by a monotone map."""

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from ._checks import as_shape
from ._threads import resolve_workers
from .atoms import NO_ATOMS, Atoms
from .log_density import evaluated, log_density, tabulated
from .maps import Map
from .mixture_map import MixtureMap
from .own_map import OwnMap
from .quantiles import fitted_quantile, quantile
from .report import FitReport

_TABLE_FROM = 50_000  # points that pay for a table: building one costs about as much as evaluating 20,000
_KERNEL_FROM = 1 << 14  # below this numpy evaluates faster than numba loads


@dataclass(frozen=True)
class Tail:
    """The structural safety tail: a Cauchy density of small mass, so that no sample is impossible."""

    mass: float
    loc: float
    scale: float

    def log_pdf(self, x):
        """Log of the whole term, mass included; -inf where there is none."""
        if self.mass == 0:
            return np.full(np.shape(x), -np.inf)
        z = (x - self.loc) / self.scale
        return np.log(self.mass / (np.pi * self.scale)) - 2 * np.log(np.hypot(1, z))

    def below(self, x):
        """Mass of the term left of x."""
        return self.mass / np.pi * np.arctan2(1, -(x - self.loc) / self.scale) if self.mass else np.zeros(np.shape(x))

    def above(self, x):
        """Mass of the term right of x."""
        return self.mass / np.pi * np.arctan2(1, (x - self.loc) / self.scale) if self.mass else np.zeros(np.shape(x))


@dataclass(frozen=True, eq=False, repr=False)
class FourierDensity:
    """``q(x) = (1 - eps) |A(u)|^2 / ||a||^2 du/dx + eps Cauchy(x)`` with ``A = sum_k a_k e^{i k theta}``, u = F(x).

    Where the data repeat single values, those are atoms with masses m_i: then pdf and logpdf are those of the
    continuous part, ``(1 - sum m_i) q(x)``, and every probability, quantile, sample, moment and `bits` holds both.

    Returned by `fit`; frozen. Methods take arrays or scalars and return the same shape, float32 for float32 (computed
    in float64 inside), numpy scalars for scalars. Logarithms are natural.

    Attributes
    ----------
    basis : "cosine" (theta = pi u, real a) or "periodic" (theta = 2 pi u, complex a).
    map : the monotone map F with its location and scale.
    coefficients : a_0 .. a_K, minimum phase, ||a|| = 1, a_0 > 0.
    tail : the safety tail; mass 0 where a support or the periodic basis was stated.
    map_parameters : numbers of the map that were fitted (2, or 0 for a stated support).
    report : what the fit tried and chose.
    atoms : `values` and `masses` of the point masses, both tuples; empty for most data.

    References
    ----------
    De la Fuente, Singh, Balle (2024), Fourier Basis Density Model, arXiv:2402.15345.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> p = ds.fit(np.random.default_rng(7).normal(size=2000), order=6, map="logistic")
    >>> bool(abs(p.cdf(p.ppf(0.25)) - 0.25) < 1e-12), p.gap_nats < 1e-9
    (True, True)
    """

    basis: str
    map: Map | MixtureMap | OwnMap
    coefficients: np.ndarray
    tail: Tail
    map_parameters: int
    report: FitReport = field(compare=False)
    atoms: Atoms = NO_ATOMS

    def __post_init__(self):
        self.coefficients.setflags(write=False)

    def __getstate__(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # what was cached can be computed again

    # --- evaluation ---

    def pdf(self, x, *, exact: bool = True, workers: int | None = None):
        """Density at x.

        `exact` evaluates the polynomial itself. ``exact=False`` lets 50,000 points and more go through a table of log q
        that was checked to 1e-8 (so the density is right to a relative 1e-8), 6 to 13 times faster; it is not the
        default, because a value would then depend in its ninth digit on how many were asked for. `workers` are threads,
        None for all cores; they change no bit of the result.
        """
        return self._evaluate(x, exact, workers, exponentiate=True)

    def logpdf(self, x, *, exact: bool = True, workers: int | None = None):
        """Log-density at x, in nats; `exact` and `workers` as for `pdf`, the table's error is at most 1e-8."""
        return self._evaluate(x, exact, workers, exponentiate=False)

    def cdf(self, x):
        """Probability of a value <= x; absolute error about 1e-15."""
        x, finish = _flat(x)
        return finish((1 - self.atoms.mass) * self._below(x) + self.atoms.below(x))

    def sf(self, x):
        """Probability of a value > x, not through 1 - cdf."""
        x, finish = _flat(x)
        return finish((1 - self.atoms.mass) * self._above(x) + self.atoms.above(x))

    def bits(self, x, step: float | None = None):
        """``-log2 P(x - step/2 < X <= x + step/2)``: what a cell of width `step` round x costs to code, atoms included.

        Right to a relative 1e-9 of the probability however narrow the cell and however far out it lies. `step` may be
        left out where the data were found to be rounded (`report.grid`); for integers it is 1.
        """
        from .code_length import bits

        x, finish = _flat(x)
        return finish(bits(self, x, step))

    def ppf(self, y):
        """Quantile: the least x with cdf(x) >= y, by Newton's method inside a bracket."""
        y, finish = _flat(y)
        if ((y < 0) | (y > 1)).any():
            raise ValueError(f"ppf takes probabilities in [0, 1]; got values from {np.nanmin(y):g} to {np.nanmax(y):g}")
        return finish(quantile(self, y))

    def sample(self, n, rng=None):
        """`n` independent samples (an integer or a shape); `rng` as in SPEC 7."""
        rng, shape = np.random.default_rng(rng), as_shape(n)
        count = int(np.prod(shape, dtype=np.int64))
        y, from_tail = rng.random(count), rng.random(count) < self.tail.mass
        x = self.map.inverse(fitted_quantile(self, y))
        if from_tail.any():
            x[from_tail] = Map("cauchy", self.tail.loc, self.tail.scale).inverse(y[from_tail])
        if len(self.atoms):
            which = np.searchsorted(np.cumsum(self.atoms.masses), rng.random(count), side="right")
            x = np.where(which < len(self.atoms), np.append(self.atoms.values, 0.0)[which], x)
        return x.reshape(shape)

    # --- numbers ---

    @property
    def order(self) -> int:
        """K, the highest frequency of A."""
        return len(self.coefficients) - 1

    @property
    def n_parameters(self) -> int:
        """Fitted real numbers: K (cosine) or 2 K (periodic), those of the map, and value and mass of each atom."""
        return self.order * (1 if self.basis == "cosine" else 2) + self.map_parameters + 2 * len(self.atoms)

    @property
    def gap_nats(self) -> float:
        """Certified bound on what the best model of this order on this map could gain, nats per sample."""
        return self.report.gap_nats

    @property
    def support(self) -> tuple[float, float]:
        """The interval outside of which there is no probability."""
        (lo, hi), values = self._free_support, self.atoms.values
        return (min(lo, values[0]), max(hi, values[-1])) if values else (lo, hi)

    def mean(self):
        """Mean of the fitted part; the safety tail, of mass `tail.mass`, has none. NaN on the Cauchy map."""
        return self.moment(1)

    def var(self):
        """Variance of the fitted part, as for `mean`; inf or NaN where the map's tails have none."""
        return self.moment(2, central=True)

    def moment(self, k: int, *, central: bool = False):
        """``E x^k`` of the fitted part, or with `central` ``E (x - mean)^k``; inf or NaN where the map has none."""
        from .functionals import moment

        return moment(self, k, central)

    def characteristic_function(self, t):
        """``E exp(i t x)``, complex, of the shape of t; the tail included, without which it would have no limit 1 at 0.

        In closed form on the affine map. Else by Legendre series on panels, whose waves are spherical Bessel functions:
        the error, about 1e-10, is the same for every t, and so is the time.
        """
        from .characteristic import characteristic_function

        return characteristic_function(self, t)

    def modes(self, *, least: float = 1e-3):
        """Local maxima from left to right, of at least `least` times the highest; ends of a support too."""
        from .functionals import modes

        return modes(self, least)

    def entropy(self):
        """Entropy in nats, the tail included; error below 1e-10, or the rounding of data far from 0 (1e-8 at 1e9).

        With atoms of masses m_i it is that with respect to length plus one unit at each atom,
        ``- sum m_i log m_i - int q log q``, q the pdf: the number of nats that data at a fine step cost, less the
        ``- log step`` of each sample that is no atom.
        """
        from .divergences import entropy

        return entropy(self)

    def kl(self, other: "FourierDensity"):
        """Kullback-Leibler divergence of `other` from this, in nats; inf where `other` rules out what this allows.

        Atoms are compared with atoms: ``sum m_i log(m_i / m'_i) + int q log(q / q')``, inf where `other` has no mass at
        an atom of this.
        """
        from .divergences import kl

        return kl(self, other)

    def wasserstein(self, other: "FourierDensity", *, order: float = 1):
        """``(int_0^1 |Q(y) - Q'(y)|^order dy)^(1 / order)`` of the quantile functions; order 1 is int |cdf - cdf'| dx.

        Both without their safety tails, which have no mean; inf where a map has no moment of that order. By quadrature;
        a relative error above 1e-6 warns.
        """
        from .divergences import wasserstein

        return wasserstein(self, other, order)

    def explain(self) -> str:
        """What was chosen and why, in sentences."""
        from .report import sentences

        return sentences(self)

    def plot(self, data=None, *, kind: str = "density", parts: bool = False, ax=None):
        """A picture on one matplotlib Axes, which is returned.

        kind : "density", over a histogram of `data` if given (with `parts` the map, its components, the polynomial);
            "order", the criterion over the orders that were tried; "qq", quantiles of `data` and their 99 % band;
            "certificate", the eigenvalues of M, none above 1 at the maximum. The last two need the `data` of the fit.
        """
        from .plotting import plot

        return plot(self, data, kind=kind, parts=parts, ax=ax)

    def to_scipy(self):
        """A distribution of `scipy.stats` (make_distribution) with these pdf, cdf and quantiles.

        Its moments are scipy's quadrature with the safety tail, which has none; `mean` and `var` here are without it.
        """
        from .functionals import to_scipy

        return to_scipy(self)

    # --- storage ---

    def to_bytes(self) -> bytes:
        """The density as bytes, the same on every machine; 100 bytes and 8 (cosine) or 16 (periodic) a coefficient."""
        from .storage import to_bytes

        return to_bytes(self)

    def _identity(self) -> tuple:
        r = self.report
        numbers = np.array([r.n, r.gap_nats, np.nan if r.grid is None else r.grid]).tobytes()
        coefficients = self.coefficients.tobytes()
        return self.basis, self.map, coefficients, self.tail, self.map_parameters, numbers, self.atoms

    def __eq__(self, other: object) -> bool:
        return self._identity() == other._identity() if isinstance(other, FourierDensity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return (
            f"FourierDensity({self.basis}, order={self.order}, map={self.map.describe()}, "
            f"n={self.report.n:g}, gap_nats={self.gap_nats:.1e})"
        )

    # --- inside: everything below works on flat float64 arrays ---

    @property
    def _free_support(self) -> tuple[float, float]:
        return (-np.inf, np.inf) if self.tail.mass else self.map.support

    @property
    def _period(self) -> float:
        return np.pi if self.basis == "cosine" else 2 * np.pi

    @cached_property
    def _series(self):
        """s_k = 2 c_k / (k period), c the autocorrelation of a: the sine series of the distribution function."""
        a, K = self.coefficients, self.order
        c = np.correlate(a, a, mode="full")[K + 1 :]  # sum_j a_{j+k} conj(a_j), k = 1..K
        return np.concatenate([[0], 2 * c / (np.arange(1, K + 1) * self._period)])

    def _p(self, u):
        x, y = _polynomial(self._period * u, self.coefficients)
        return x * x + y * y

    def _mass(self, u, flip=False):
        """``int_0^u p``, or with `flip` the integral over the last u of the interval."""
        s = self._series
        if flip:
            s = s * (-1.0) ** np.arange(len(s)) if self.basis == "cosine" else np.conj(s)
        mass = np.clip(u + _polynomial(self._period * u, s)[1] - np.imag(s).sum(), 0, 1)
        return np.where(u == 0, 0.0, mass)

    @cached_property
    def _table(self):
        from .log_table import table_of

        return table_of(self)

    def _evaluate(self, x, exact: bool, workers: int | None, *, exponentiate: bool):
        x, workers = np.asarray(x), resolve_workers(workers)
        if not exact and x.size >= _TABLE_FROM and x.dtype in (np.float32, np.float64):
            out = tabulated(self, np.ascontiguousarray(x).reshape(-1), workers, exponentiate=exponentiate)
            return out.reshape(x.shape)
        x, finish = _flat(x)
        return finish(evaluated(self, x, workers, exponentiate=exponentiate))

    def _log_pdf(self, x):
        return log_density(self, x)

    def _below(self, x):
        u, v = self.map.forward(x), self.map.complement(x)
        inner = np.where(u <= 0.5, self._mass(np.minimum(u, 0.5)), 1 - self._mass(np.minimum(v, 0.5), flip=True))
        return np.where(np.isnan(x), np.nan, (1 - self.tail.mass) * inner + self.tail.below(x))

    def _above(self, x):
        u, v = self.map.forward(x), self.map.complement(x)
        inner = np.where(u > 0.5, self._mass(np.minimum(v, 0.5), flip=True), 1 - self._mass(np.minimum(u, 0.5)))
        return np.where(np.isnan(x), np.nan, (1 - self.tail.mass) * inner + self.tail.above(x))

    def _expect(self, g) -> float:
        """``int_0^1 g(u) p(u) du``."""
        from .quadrature import integrate

        last = 1 - 2.0**-53  # a panel at 1 may be so small that its nodes round to 1, where x is infinite
        return integrate(lambda u: g(np.minimum(u, last)) * self._p(u), 16 + 2 * self.order)[0]

    def _expect_all(self, g, breaks=()) -> float:
        """Mean of g(x) under the continuous part, the tail included; g may jump at `breaks`."""
        from .quadrature import integrate, panels

        def at(m, u):  # what lies beyond the doubles has no mass to speak of
            with np.errstate(over="ignore"):
                return np.clip(m.inverse(np.minimum(u, 1 - 2.0**-53)), -largest, largest)

        largest = np.finfo(np.float64).max / 4
        u = panels(16 + 2 * self.order, self.map.forward(np.asarray(breaks, dtype=np.float64)))
        # x is rounded to 2^-53 |loc|: no refinement makes the integrand smoother than that
        noise = np.finfo(np.float64).eps * abs(self.map.centred()[0]) / abs(self.map.scale)
        fine = max(1e-12, noise) if np.isfinite(noise) else 1e-12
        value = integrate(lambda u: g(at(self.map, u)) * self._p(u), u, tolerance=fine)[0]
        if self.tail.mass:
            cauchy = Map("cauchy", self.tail.loc, self.tail.scale)
            w = panels(16, cauchy.forward(np.asarray(breaks, dtype=np.float64)))
            value += self.tail.mass * (integrate(lambda w: g(at(cauchy, w)), w, tolerance=fine)[0] - value)
        return value

    @cached_property
    def _knots(self):
        """Points that bracket every quantile, with the mass on both sides of each."""
        u = np.linspace(0, 1, max(512, 8 * self.order) + 1)[1:-1]
        if self.map.bounded:
            x = self.map.inverse(np.concatenate([[0], u, [1]]))
        else:
            small = np.array([1e-300, 1e-100, 1e-30, 1e-16, 1e-12, 1e-8, 1e-5])
            ends = self.map.inverse(small), self.map.inverse_complement(small), self.map.support
            x = np.concatenate([self.map.inverse(u), *ends])
        if self.tail.mass:
            with np.errstate(over="ignore"):
                far = self.tail.scale * np.logspace(0, 300, 301)
            x = np.concatenate([self.tail.loc - far[::-1], x, self.tail.loc + far])
        x = np.unique(x[np.isfinite(x)])
        return x, np.maximum.accumulate(self._below(x)), np.minimum.accumulate(self._above(x))


def _flat(x):
    """x as a flat float64 array, and what gives a result back its shape and its dtype."""
    x = np.asarray(x)
    if x.dtype.kind not in "buif":
        raise TypeError(f"a density is evaluated at real numbers, not at dtype {x.dtype}")
    dtype = x.dtype if x.dtype.kind == "f" and x.dtype.itemsize <= 8 else np.dtype(np.float64)

    def finish(values):
        values = values.reshape(x.shape).astype(dtype, copy=False)
        return values[()] if x.ndim == 0 else values

    return x.astype(np.float64).reshape(-1), finish


def _polynomial(theta, a):
    """Real and imaginary part of ``sum_k a_k e^{i k theta}``; Horner, whose squares cannot turn negative."""
    real = np.ascontiguousarray(np.real(a), dtype=np.float64)
    imag = np.ascontiguousarray(np.imag(a), dtype=np.float64)
    if theta.size >= _KERNEL_FROM:
        from ._kernels import horner

        x, y = np.empty_like(theta), np.empty_like(theta)
        horner(np.ascontiguousarray(theta), real, imag, x, y)
        return x, y
    z = np.exp(1j * theta)
    total = np.full(z.shape, complex(a[-1]))
    for k in range(len(a) - 2, -1, -1):
        total = total * z + a[k]
    return np.real(total), np.imag(total)
