"""torch tensors at the door: recognised without importing torch, and returned where arrays would be."""

import dataclasses
import sys
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

_HOSTS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # results with arrays, which keep what they computed

F = TypeVar("F", bound=Callable)


def is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(tensor: Any) -> np.ndarray:
    """The numbers of a tensor, outside of its graph; no copy is made of what is in main memory."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return tensor.cpu().numpy()


def from_numpy(array: np.ndarray, device: Any) -> Any:
    """A tensor on `device`, which shares the memory of the array where it can."""
    import torch

    if not (array.flags.writeable and all(stride >= 0 for stride in array.strides)):
        array = array.copy()
    return torch.from_numpy(array).to(device)


# --- results: the same class, with tensors where it had arrays ---


def _is_transpose(result: Any) -> bool:
    return all(hasattr(result, name) for name in ("matmat", "base", "conjugate"))


def device_of(result: Any) -> Any:
    """The device of the tensors in a result, or None where it holds arrays."""
    if is_tensor(result):
        return result.device
    if isinstance(result, tuple):
        return next((device for device in map(device_of, result) if device is not None), None)
    if _is_transpose(result):
        return device_of(result.base)
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        found = (device_of(getattr(result, field.name)) for field in dataclasses.fields(result))
        return next((device for device in found if device is not None), None)
    return None


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with each array or tensor in it, however deep in results and tuples, replaced by ``change`` of it."""
    if isinstance(value, np.ndarray) or is_tensor(value):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(item, change) for item in value)
    if _is_transpose(value):
        return type(value)(mapped(value.base, change), value.conjugate)
    if hasattr(value, "matmat") and dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return dataclasses.replace(
            value, **{name: mapped(part, change) for name, part in fields.items() if name != "record"}
        )
    return value


def on_host(value: Any) -> Any:
    """`value` with arrays in place of tensors."""
    return mapped(value, lambda part: to_numpy(part) if is_tensor(part) else part)


def on_device(value: Any, device: Any) -> Any:
    """`value` with tensors in place of arrays."""
    return mapped(value, lambda part: part if is_tensor(part) else from_numpy(part, device))


def through_host(method: F) -> F:
    """A method of a result that computes with numpy: for a result of tensors its arguments and answer are converted.

    In main memory that copies nothing. From a GPU the factors go to the host and the answer goes back.
    """

    @wraps(method)
    def run(self, *args, **kwargs):
        device = device_of(self)
        if device is None:
            return method(self, *args, **kwargs)
        if self not in _HOSTS:
            _HOSTS[self] = on_host(self)
        args = [on_host(value) for value in args]
        return on_device(method(_HOSTS[self], *args, **{k: on_host(v) for k, v in kwargs.items()}), device)

    return cast(F, run)


def like(X: Any, result: Any) -> Any:
    """`X` as an array, or as a tensor beside those of `result`."""
    device = device_of(result)
    if device is None:
        return np.asarray(X)
    import torch

    X = torch.as_tensor(X, device=device)
    return X if X.is_complex() and not result.dtype.is_complex else X.to(result.dtype)


def solve_triangular(R: Any, X: Any, *, trans: int = 0) -> Any:
    """``R^-1 X`` for upper triangular R, or ``R^-H X`` for ``trans=2``."""
    if not is_tensor(R):
        from scipy.linalg import solve_triangular as solve

        return solve(R, X, trans=trans, check_finite=False)
    import torch

    if trans == 2:
        return torch.linalg.solve_triangular(R.mH, X, upper=False)
    return torch.linalg.solve_triangular(R, X, upper=True)


def identity(n: int, like: Any) -> Any:
    """The identity of size n in the kind, dtype and place of `like`."""
    if not is_tensor(like):
        return np.eye(n, dtype=like.dtype)
    import torch

    return torch.eye(n, dtype=like.dtype, device=like.device)


# --- public functions ---


def takes_tensors(function: F) -> F:
    """A public function whose first argument (or second, where the first is a kernel) may be a tensor.

    Then its result has tensors, on the same device, wherever it had arrays. Further tensors among the arguments are
    read as arrays. Leading dimensions of the first argument make a batch.
    """
    parameters = signature(function).parameters.values()
    matrix = function.__name__ != "cr"  # which multiplies arrays, and does not look at them as operands
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][:2]

    @wraps(function)
    def run(*args, **kwargs):
        values = [*args, *kwargs.values()]
        if "torch" not in sys.modules or all(device_of(value) is None for value in values):
            return function(*args, **kwargs)
        given = dict(zip(names, args)) | {name: kwargs[name] for name in names if name in kwargs}
        lead = next((name for name in names if is_tensor(given.get(name))), "")
        tensor: Any = given.get(lead)
        if lead == names[0] and tensor.ndim > 2:
            from .batch import Batch

            return Batch.of(run, names, args, kwargs)
        A, counter = None, None
        if lead == names[0] and matrix:
            from .operands import as_operand

            A = as_operand(tensor)
            counter = A.counter

        def read(value: Any) -> Any:
            return A if A is not None and value is tensor else on_host(value)

        result = function(*map(read, args), **{key: read(value) for key, value in kwargs.items()})
        if tensor is None:  # the matrix itself is no tensor: neither is the answer
            return result
        return _told(on_device(result, tensor.device), tensor.device, counter)

    return cast(F, run)


def _told(result: Any, device: Any, counter: Any) -> Any:
    """The result, with what was copied from the device in its choices."""
    copied = getattr(counter, "copied", 0)
    if not (copied and hasattr(result, "record")):
        return result
    line = (
        f"columns and coefficients on the host: {copied / 1e6:.3g} MB of sketches and chosen parts came from {device}"
    )
    return dataclasses.replace(
        result, record=dataclasses.replace(result.record, choices=(*result.record.choices, line))
    )
