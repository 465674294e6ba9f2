"""Slow, obvious implementations; each fast kernel is compared with its namesake here."""

import numpy as np

# --- lowrank ---


def scaled_residual(error: float, scale: float, n: int, dtype) -> float:
    """LAPACK's measure, ``error / (n * eps * scale)``; below 30 is backward stable."""
    return float(error) / (max(n, 1) * float(np.finfo(dtype).eps) * max(float(scale), np.finfo(dtype).tiny))


# --- seqsolve ---


# --- density ---
