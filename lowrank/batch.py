"""Results of a batch of matrices, which multiply like one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """The results for A of shape (..., m, n), one for each matrix, in the order of the batch.

    ``f[i]`` (or ``f[i, j]``) is the result of a matrix; ``f.indices``, ``f.C``, ``f.coefficients`` and other parts are
    stacked, where the ranks agree; ``f @ X`` and ``f.to_dense()`` work on all matrices. A seed is used for each matrix
    anew, so that ``f[i]`` is what the matrix alone gives.

    results : of each matrix;  shape : (..., m, n).

    Examples
    --------
    >>> import torch, lowrank as lr
    >>> A = torch.ones(4, 30, 20)
    >>> f = lr.column_id(A, rank=1, rng=7)
    >>> tuple(f.C.shape), tuple(f.to_dense().shape), tuple((f @ torch.ones(20)).shape)
    ((4, 30, 1), (4, 30, 20), (4, 30))
    """

    results: tuple[Any, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, function: Callable, names: list[str], args: tuple, kwargs: dict) -> Any:
        """`function` of each matrix of its first argument; where it takes two matrices, of each pair."""
        given = dict(zip(names, args)) | {name: kwargs[name] for name in names if name in kwargs}
        A = given[names[0]]
        if 0 in A.shape[:-2]:
            raise ValueError(f"A has shape {tuple(A.shape)}: a batch without a matrix; pass at least one")
        batch = tuple(A.shape[:-2])
        options = {key: value for key, value in kwargs.items() if key not in names}
        matrices = [A.reshape(-1, *A.shape[-2:])]
        others = [given[name] for name in names[1:] if name in given]
        for other in others:
            if isinstance(other, Batch):
                matrices.append(list(other.results))
            elif not hasattr(other, "ndim") or other.ndim < 2:
                matrices.append([other] * len(matrices[0]))
            elif tuple(other.shape[:-2]) != batch:
                raise ValueError(
                    f"A is a batch of shape {tuple(A.shape)}, but {names[1]} has shape {tuple(other.shape)}; "
                    "their leading dimensions must agree"
                )
            else:
                matrices.append(other.reshape(-1, *other.shape[-2:]))
        results = tuple(function(*each, *args[len(names) :], **options) for each in zip(*matrices, strict=True))
        if not hasattr(results[0], "matmat"):
            return _stack(results, batch)
        return cls(results, (*batch, *results[0].shape))

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading dimensions."""
        return self.shape[:-2]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, at: Any) -> Any:
        chosen = np.arange(len(self.results)).reshape(self.batch)[at]
        if isinstance(chosen, np.ndarray):
            found = tuple(self.results[i] for i in chosen.ravel())
            return Batch(found, (*chosen.shape, *self.shape[-2:]))
        return self.results[int(chosen)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _stack([getattr(result, name) for result in self.results], self.batch)

    def to_dense(self) -> Any:
        """The approximations, (..., m, n)."""
        return _stack([result.to_dense() for result in self.results], self.batch)

    def __matmul__(self, X: Any) -> Any:
        """The approximations times X: one vector or matrix for all, or a batch of matrices."""
        if X.ndim <= 2:
            return _stack([result @ X for result in self.results], self.batch)
        if tuple(X.shape[:-2]) != self.batch:
            raise ValueError(f"shapes do not fit: a batch {self.shape} with an operand of shape {tuple(X.shape)}")
        each = X.reshape(-1, *X.shape[-2:])
        return _stack([result @ x for result, x in zip(self.results, each, strict=True)], self.batch)

    def explain(self) -> str:
        """What was done for each matrix."""
        places = np.ndindex(*self.batch)
        return "\n\n".join(f"{list(place)}: {result.explain()}" for place, result in zip(places, self.results))

    def __repr__(self) -> str:
        return f"<batch {self.batch} of\n {self.results[0]!r}, ...>"


def _stack(values: Any, batch: tuple[int, ...]) -> Any:
    """Tensors stacked to (..., their shape), which must agree; other things as a tuple."""
    if not hasattr(values[0], "reshape"):
        return tuple(values)
    import torch

    shapes = {tuple(value.shape) for value in values}
    if len(shapes) > 1:
        raise ValueError(
            f"the matrices of the batch have parts of different shapes, {sorted(shapes)}, because their ranks differ; "
            "take them one by one, as f[i]"
        )
    stacked = torch.stack(list(values))
    return stacked.reshape(*batch, *stacked.shape[1:])
