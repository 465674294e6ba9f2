"""One file for each kind of matrix; algorithms see the verbs of `Operand` and never an array type."""

import numpy as np

from .base import Operand
from .dense import Dense
from .kernel import GaussianKernel, KernelMatrix
from .operator import Operator
from .sparse import Sparse

__all__ = ["Dense", "GaussianKernel", "KernelMatrix", "Operand", "Operator", "Sparse", "as_operand"]

KINDS: tuple[type[Operand], ...] = (Dense, Sparse, KernelMatrix, Operator)


def as_operand(A) -> Operand:
    """Wrap `A` in the operand of its kind: the only place in the package that looks at types.

    Parameters
    ----------
    A : numpy array of two dimensions, nested sequence of numbers, scipy.sparse matrix or array,
        scipy LinearOperator, ``KernelMatrix(kernel, X)``, or an `Operand`.

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
        return Dense(np.asarray(A))
    name = f"{type(A).__module__}.{type(A).__qualname__}"
    raise TypeError(
        f"A is a {name}, which lowrank does not read yet; it reads "
        + "; ".join(kind.reads for kind in KINDS)
        + ". Convert it to a numpy array, or write an operand (see lowrank.operands.base.Operand)"
    )
