"""Patches of a photograph, one a row."""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

__all__ = ["photo_patches"]


def photo_patches(image: str | ArrayLike = "china.jpg", *, size: int = 8, dtype: DTypeLike = np.float64) -> np.ndarray:
    """All `size` x `size` patches of a photograph, one a row; integer images are brought to [0, 1].

    image : an array of shape (height, width) or (height, width, colours); or ``"china.jpg"`` or ``"flower.jpg"``, which
    scikit-learn ships: 427 x 640, so that there are 420 x 633 = 265,860 patches of 192 numbers.
    Row ``y * (width - size + 1) + x`` is the patch whose upper left pixel is (y, x); its entries run over rows, columns
    and colours. The rank is at most ``size^2 colours``, 1 for a constant image and 3 for a linear ramp in both
    directions at most.

    Raises
    ------
    ImportError
        If a name is given and scikit-learn or pillow is missing; nothing is downloaded.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> y, x = np.mgrid[:20, :30]
    >>> patches = gallery.photo_patches(2.0 * y + x, size=5)
    >>> patches.shape, int(np.linalg.matrix_rank(patches))
    ((416, 25), 2)
    """
    pixels = _sample(image) if isinstance(image, str) else np.asarray(image)
    if pixels.ndim not in (2, 3):
        raise ValueError(f"the image has shape {pixels.shape}; expected (height, width) or (height, width, colours)")
    if not 1 <= size <= min(pixels.shape[:2]):
        raise ValueError(f"size={size}; an image of {pixels.shape[:2]} has patches of 1 to {min(pixels.shape[:2])}")
    scale = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    image = pixels.astype(dtype) / np.dtype(dtype).type(scale)
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))
    if pixels.ndim == 3:
        windows = windows.transpose(0, 1, 3, 4, 2)  # (y, x, row, column, colour)
    rows, columns = windows.shape[:2]
    return np.ascontiguousarray(windows).reshape(rows * columns, -1)


def _sample(name: str) -> np.ndarray:
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as problem:
        raise ImportError(
            "photo_patches needs scikit-learn and pillow: pip install triskele[sklearn] pillow"
        ) from problem
    return load_sample_image(name)
