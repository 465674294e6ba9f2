"""Kernels of points as their formulas say, in extended precision, one pair after another."""

import numpy as np


def kernel_matrix(name: str, P: np.ndarray, Q: np.ndarray, **options) -> np.ndarray:
    """K(p, q) for every pair; `name` is that of the class."""
    wide = np.longdouble
    K = np.empty((len(P), len(Q)), dtype=wide)
    for i, p in enumerate(P.astype(wide)):
        for j, q in enumerate(Q.astype(wide)):
            K[i, j] = pair(name, p, q, **options)
    return K


def pair(name: str, p, q, bandwidth=1.0, nu=1.5, degree=2, offset=1.0, factor=1.0):
    d = p - q
    size = np.abs(d).max(initial=0)
    r = size * np.sqrt(np.sum((d / size) ** 2)) / np.longdouble(bandwidth) if size > 0 else np.longdouble(0)
    match name, nu:
        case "GaussianKernel", _:
            return np.exp(-r * r / 2)
        case ("LaplaceKernel", _) | ("MaternKernel", 0.5):
            return np.exp(-r)
        case "MaternKernel", 1.5:
            a = np.sqrt(np.longdouble(3)) * r
            return (1 + a) * np.exp(-a)
        case "MaternKernel", 2.5:
            a = np.sqrt(np.longdouble(5)) * r
            return (1 + a + a * a / 3) * np.exp(-a)
        case "PolynomialKernel", _:
            return (np.longdouble(factor) * np.sum(p * q) + np.longdouble(offset)) ** degree
        case "CosineKernel", _:
            return np.sum(p * q) / np.sqrt(np.sum(p * p)) / np.sqrt(np.sum(q * q))
    raise ValueError(name)
