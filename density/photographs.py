"""The photographs that scikit-learn ships, and what a predictor leaves of them: real integers to fit and to code."""

import numpy as np


def photo(name: str = "china.jpg") -> np.ndarray:
    """A photograph that scikit-learn ships ("china.jpg" or "flower.jpg"), uint8 of shape (427, 640, 3)."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise ImportError("the photographs come with scikit-learn; run: pip install scikit-learn pillow") from None
    return np.array(load_sample_image(name))


def photo_residuals(name: str = "china.jpg") -> np.ndarray:
    """What the median edge detector fails to predict of a photograph, int16 of the photo's shape.

    Each channel is predicted from its left, upper and upper-left neighbours as in JPEG-LS; `photo_from_residuals`
    inverts it exactly.

    References
    ----------
    Weinberger, Seroussi, Sapiro (2000), The LOCO-I lossless image compression algorithm, doi 10.1109/83.855427.
    """
    pixels = photo(name).astype(np.int16)
    padded = np.pad(pixels, ((1, 0), (1, 0), (0, 0)))
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    guess = _median_edge(left, up, corner)
    guess[:, 0], guess[0] = up[:, 0], left[0]
    return pixels - guess


def photo_from_residuals(residuals) -> np.ndarray:
    """The photograph whose residuals these are: pixels of one anti-diagonal depend only on the two before it."""
    residuals = np.asarray(residuals, np.int16)
    height, width = residuals.shape[:2]
    pixels = np.zeros_like(residuals)
    for d in range(height + width - 1):
        row = np.arange(max(0, d - width + 1), min(height, d + 1))
        column = d - row
        left = np.where((column > 0)[:, None], pixels[row, column - 1], 0)
        up = np.where((row > 0)[:, None], pixels[row - 1, column], 0)
        corner = np.where(((row > 0) & (column > 0))[:, None], pixels[row - 1, column - 1], 0)
        guess = _median_edge(left, up, corner)
        guess = np.where((row == 0)[:, None], left, np.where((column == 0)[:, None], up, guess))
        pixels[row, column] = residuals[row, column] + guess
    return pixels.astype(np.uint8)


def _median_edge(left, up, corner):
    """The median of left, up and left + up - corner (Weinberger et al. 2000, eq. 1)."""
    return np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
