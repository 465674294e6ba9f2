"""p(y | x) from one-dimensional Fourier densities: coefficients that move with x, and a chain of them.

``python examples/conditional.py`` fits both to data whose truth is known and says how many nats a sample are lost on
new data against the truth. The model is that of De la Fuente, Singh and Balle (2024, arXiv:2402.15345), their remark on
conditional densities made concrete: ``p(y | x) = |sum_k a_k(x) e^{i k theta}|^2 / ||a(x)||^2 F'(y)``, theta = pi F(y),
where a(x) = W phi(x) is a linear regression on Legendre polynomials phi of where x lies in its own distribution. W
maximises the likelihood, by L-BFGS from the density of y alone; unlike that of `ds.fit` this problem is not concave, so
there is no certificate.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import minimize

import density as ds
from density.likelihood import minimum_phase

SHARES = 3  # one part in three chooses the degree


@dataclass(frozen=True)
class Features:
    """Products of Legendre polynomials of ``2 cdf(x_j) - 1``, of total degree at most `degree`."""

    margins: tuple[ds.FourierDensity, ...]
    degree: int

    def __call__(self, X) -> np.ndarray:
        """(n, d) to (n, F); the first is 1."""
        every = product(range(self.degree + 1), repeat=len(self.margins))
        degrees = sorted((d for d in every if sum(d) <= self.degree), key=sum)
        t = [2 * p.cdf(x) - 1 for p, x in zip(self.margins, X.T, strict=True)]
        waves = [np.polynomial.legendre.legvander(v, self.degree) for v in t]
        return np.stack([np.prod([w[:, k] for w, k in zip(waves, d)], axis=0) for d in degrees], axis=1)


@dataclass(frozen=True)
class Conditional:
    """p(y | x): W, (K + 1, F), on the map and with the safety tail of the density of y alone."""

    margin: ds.FourierDensity
    features: Features
    W: np.ndarray

    def logpdf(self, y, X) -> np.ndarray:
        """log p(y_i | x_i), nats; X is (n, d)."""
        u = self.margin.map.forward(y)
        a = self.features(X) @ self.W.T
        A = (a * np.exp(1j * np.pi * u[:, None] * np.arange(a.shape[1]))).sum(axis=1)
        fitted = np.log(np.abs(A) ** 2 / (a**2).sum(axis=1)) + self.margin.map.log_derivative(y)
        tail = self.margin.tail
        return np.logaddexp(fitted + np.log1p(-tail.mass), tail.log_pdf(y))

    def at(self, x) -> ds.FourierDensity:
        """The density of y at one x, (d,), with everything that a `FourierDensity` can do but the certificate."""
        a = (self.features(np.atleast_2d(x)) @ self.W.T)[0]
        report = replace(self.margin.report, status=ds.Status.UNCERTIFIED, gap_nats=np.inf)
        return replace(self.margin, coefficients=minimum_phase(a / np.linalg.norm(a)), report=report)


def fit_at(y, X, order: int, degree: int) -> Conditional:
    """Maximum likelihood of W for one order and degree."""
    margin = ds.fit(y, order=order, map="logistic")
    features = Features(tuple(ds.fit(x, map="logistic") for x in X.T), degree)
    phi, waves = features(X), np.exp(1j * np.pi * margin.map.forward(y)[:, None] * np.arange(order + 1))
    W = np.zeros((order + 1, phi.shape[1]))
    W[:, 0] = margin.coefficients

    def loss(flat):
        a = phi @ flat.reshape(W.shape).T
        A, norm = (a * waves).sum(axis=1), (a * a).sum(axis=1)
        gradient = 2 * (waves / A[:, None]).real - 2 * a / norm[:, None]
        return -np.mean(np.log(np.abs(A) ** 2 / norm)), -(gradient.T @ phi).ravel() / len(y)

    found = minimize(loss, W.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 150, "maxcor": 20})
    return Conditional(margin, features, found.x.reshape(W.shape))


def fit_conditional(y, X, orders=(4, 8, 16), degrees=(2, 4, 8)) -> Conditional:
    """Degree at the middle order, then order, by the likelihood of a third that is held out; then W from everything."""
    X = np.asarray(X, float).reshape(len(y), -1)
    held = np.arange(len(y)) % SHARES == 0

    def score(order: int, degree: int) -> float:
        return float(fit_at(y[~held], X[~held], order, degree).logpdf(y[held], X[held]).mean())

    degree = max(degrees, key=lambda d: score(orders[len(orders) // 2], d))
    order = max(orders, key=lambda k: score(k, degree))
    return fit_at(y, X, order, degree)


@dataclass(frozen=True)
class Chain:
    """``p(x) = p(x_1) p(x_2 | x_1) p(x_3 | x_1, x_2) ...``: as many one-dimensional densities as features."""

    first: ds.FourierDensity
    rest: tuple[Conditional, ...]

    def logpdf(self, X) -> np.ndarray:
        """log p of each row, nats."""
        parts = [p.logpdf(X[:, j], X[:, :j]) for j, p in enumerate(self.rest, 1)]
        return self.first.logpdf(X[:, 0]) + np.sum(parts, axis=0)

    def sample(self, n: int, rng=None) -> np.ndarray:
        """Feature after feature; a quantile for each sample and feature, about a millisecond each."""
        rng = np.random.default_rng(rng)
        X = self.first.sample(n, rng=rng)[:, None]
        for p in self.rest:
            X = np.column_stack([X, [p.at(x).sample(1, rng=rng)[0] for x in X]])
        return X


def fit_chain(X, **ladders) -> Chain:
    """Each feature given those before it."""
    return Chain(ds.fit(X[:, 0]), tuple(fit_conditional(X[:, j], X[:, :j], **ladders) for j in range(1, X.shape[1])))


class Crossing:
    """Two branches that cross: y is near sin 1.5x or near -sin 1.5x, and noisier to the right."""

    @staticmethod
    def sample(n: int, rng) -> tuple[np.ndarray, np.ndarray]:
        """(y, x)."""
        x = rng.uniform(-2, 2, n)
        sign = np.where(rng.random(n) < 0.5, 1, -1)
        return sign * np.sin(1.5 * x) + (0.3 + 0.1 * x) * rng.standard_normal(n), x

    @staticmethod
    def logpdf(y, x) -> np.ndarray:
        """The truth."""
        z = [(y - s * np.sin(1.5 * x)) / (0.3 + 0.1 * x) for s in (1, -1)]
        return np.logaddexp(-0.5 * z[0] ** 2, -0.5 * z[1] ** 2) - np.log(2 * np.sqrt(2 * np.pi) * (0.3 + 0.1 * x))


class Banana:
    """x_1 normal, x_2 about x_1^2, x_3 Laplace about sin x_1 + x_2 / 2."""

    @staticmethod
    def sample(n: int, rng) -> np.ndarray:
        """(n, 3)."""
        a = rng.standard_normal(n)
        b = a**2 + 0.5 * rng.standard_normal(n)
        return np.column_stack([a, b, np.sin(a) + b / 2 + rng.laplace(scale=0.5, size=n)])

    @staticmethod
    def logpdf(X) -> np.ndarray:
        """The truth."""
        a, b, c = X.T
        normal = -0.5 * (a**2 + ((b - a**2) / 0.5) ** 2) - np.log(2 * np.pi * 0.5)
        return normal - np.abs(c - np.sin(a) - b / 2) / 0.5


def main() -> None:
    """Fit both, and print what is lost against the truth on new data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3000, help="samples to fit")
    n = parser.parse_args().n
    rng = np.random.default_rng(20267)
    y, x = Crossing.sample(n, rng)
    new = Crossing.sample(20_000, rng)
    p = fit_conditional(y, x)
    alone = ds.fit(y).logpdf(new[0]).mean()
    truth, found = Crossing.logpdf(*new).mean(), p.logpdf(new[0], new[1][:, None]).mean()
    print(f"p(y | x): order {p.W.shape[0] - 1}, degree {p.features.degree}; {truth - found:.4f} nats lost of the")
    print(f"{truth - alone:.4f} that y alone would lose; modes at x = 0.8: {np.round(p.at([0.8]).modes(), 2)}")
    X, test = Banana.sample(n, rng), Banana.sample(20_000, rng)
    chain = fit_chain(X)
    truth, found = Banana.logpdf(test).mean(), chain.logpdf(test).mean()
    gauss = -0.5 * (np.log(np.linalg.det(2 * np.pi * np.cov(X.T))) + 3)
    print(f"chain of three: {truth - found:.4f} nats lost of the {truth - gauss:.4f} that a normal density loses")
    S = chain.sample(200, rng=7)
    print(f"correlation of x_1^2 and x_2 in its samples: {np.corrcoef(S[:, 0] ** 2, S[:, 1])[0, 1]:.2f}")


if __name__ == "__main__":
    main()
