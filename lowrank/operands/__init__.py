"""One file for each kind of matrix; algorithms see the verbs of `Operand` and never an array type."""

from lowrank._checks import check_array

from .angular import CosineKernel, PolynomialKernel
from .base import Operand
from .blocked import Blocked, Mapped
from .dask import Dask
from .dense import Dense
from .kernel import KernelMatrix
from .numba_kernel import NumbaKernel
from .operator import Operator
from .radial import GaussianKernel, LaplaceKernel, MaternKernel
from .sparse import Sparse
from .tensor import Tensor

__all__ = [
    "Blocked",
    "CosineKernel",
    "Dask",
    "Dense",
    "GaussianKernel",
    "KernelMatrix",
    "LaplaceKernel",
    "Mapped",
    "MaternKernel",
    "NumbaKernel",
    "Operand",
    "Operator",
    "PolynomialKernel",
    "Sparse",
    "Tensor",
    "as_operand",
]

KINDS: tuple[type[Operand], ...] = (Dense, Mapped, Sparse, KernelMatrix, Operator, Tensor, Dask, Blocked)


def as_operand(A) -> Operand:
    """Wrap `A` in the operand of its kind: the only place in the package that looks at types.

    Parameters
    ----------
    A : numpy array of two dimensions, nested sequence of numbers, scipy.sparse matrix or array,
        scipy LinearOperator, torch tensor (strided, on any device), ``KernelMatrix(kernel, X)``, an `Operand`,
        or what is read by slices and may be larger
        than memory: a numpy memory map, a zarr array, an h5py dataset, a dask array.

    Raises
    ------
    TypeError
        For a kind that no operand handles, naming the kinds that are handled.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> operand = lr.as_operand(np.eye(3))
    >>> operand.columns(np.array([1])).ravel(), operand.entries_read
    (array([0., 1., 0.]), 3)
    """
    if isinstance(A, Operand):
        return A
    for kind in KINDS:
        if kind.accepts(A):
            return kind.wrap(A)
    if isinstance(A, (list, tuple)):
        return Dense(check_array(A))
    name = f"{type(A).__module__}.{type(A).__qualname__}"
    raise TypeError(
        f"A is a {name}, which lowrank does not read yet; it reads "
        + "; ".join(kind.reads for kind in KINDS)
        + ". Convert it to a numpy array, or write an operand (see lowrank.operands.base.Operand)"
    )
