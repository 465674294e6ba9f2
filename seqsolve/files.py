"""Recurrent modules and inputs from files: a saved module or state_dict, an array of numpy's."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = {1: nn.RNN, 3: nn.GRU, 4: nn.LSTM}
CELLS = {1: nn.RNNCell, 3: nn.GRUCell, 4: nn.LSTMCell}
_PLAIN = [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell, set]  # loading them runs no code of a stranger
_FIRST = re.compile(r"(?:(.*)\.)?weight_hh(_l0)?")


def read_module(path: Path, *, trust: bool = False, name: str | None = None, nonlinearity: str = "tanh") -> nn.Module:
    """The recurrent module in a file that ``torch.save`` wrote.

    A state_dict, or a module of torch's own recurrent classes, is read without running any code of the file. Anything
    else is a pickle that may run what it likes, and needs ``trust``.

    Parameters
    ----------
    path : the file.
    trust : unpickle whatever the file holds.
    name : the part that is meant, such as "encoder.gru"; None where there is one alone.
    nonlinearity : "tanh" or "relu", for the state_dict of an nn.RNN, which does not say it.

    Returns
    -------
    nn.Module
        In eval mode. Of a state_dict: an nn.RNN, nn.GRU, nn.LSTM or one of their cells, by its shapes.
    """
    found = _loaded(path, trust)
    if isinstance(found, nn.Module):
        if name is not None:
            try:
                found = found.get_submodule(name)
            except AttributeError:
                parts = [key for key, part in found.named_modules() if isinstance(part, nn.RNNBase | nn.RNNCellBase)]
                raise ValueError(_no_part(path, name, parts)) from None
        return found.eval()
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):  # as training loops save it
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__}; save a recurrent module, or its state_dict()")
    return from_state(found, path, name, nonlinearity).eval()


def _loaded(path: Path, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():  # of a file that is refused, the sentences below say enough
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            if trust:
                return torch.load(path, map_location="cpu", weights_only=False)
            if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5
                return torch.load(path, map_location="cpu", weights_only=True)
            with torch.serialization.safe_globals(_PLAIN):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise ValueError(f"{path} is not a file that torch.save wrote") from None
        raise ValueError(
            f"{path} is a pickle that needs {wanted.group(1)}, and unpickling can run any code; save the state_dict()"
            " instead, or pass --trust if you know who wrote the file"
        ) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a foreign or truncated file raises almost anything
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{path} is not a file that torch.load can read ({what})") from None


def from_state(state: dict[str, Tensor], path: Any, name: str | None, nonlinearity: str) -> nn.Module:
    """The module whose state_dict this is, or of which a part's is in it."""
    roots = {match.group(1) or "": match.group(2) or "" for key in state if (match := _FIRST.fullmatch(key))}
    if name is not None and name not in roots:
        raise ValueError(_no_part(path, name, sorted(roots)))
    if name is None and len(roots) != 1:
        raise ValueError(
            f"{path} holds {'no' if not roots else 'several'} recurrent parts"
            + (f": {sorted(roots)}; name one" if roots else ", no key ends in weight_hh_l0 or weight_hh")
        )
    root = next(iter(roots)) if name is None else name
    mine = {
        key[len(root) + 1 if root else 0 :]: t for key, t in state.items() if key.startswith(f"{root}." if root else "")
    }
    mine = {key: t for key, t in mine.items() if key.startswith(("weight_", "bias_"))}
    suffix = roots[root]
    U, W = mine[f"weight_hh{suffix}"], mine.get(f"weight_ih{suffix}")
    projected = mine.get(f"weight_hr{suffix}")
    odd = next((t for t in mine.values() if not t.is_floating_point() or t.layout != torch.strided or t.is_meta), None)
    if odd is not None:
        what = (
            "without values" if odd.is_meta else f"of {odd.dtype}" if odd.layout == torch.strided else "that are sparse"
        )
        raise ValueError(f"{path} has weights {what}; save dense ones of real numbers")
    if U.dim() != 2 or W is None or W.dim() != 2:
        raise ValueError(f"{path} has a weight_hh without a matching weight_ih; it is no state_dict of torch's modules")
    hidden = U.shape[1] if projected is None else projected.shape[1]
    gates = U.shape[0] // hidden if U.shape[0] % hidden == 0 else 0
    if gates not in CLASSES:
        raise ValueError(
            f"{path} has weight_hh of shape {tuple(U.shape)}, which is that of no nn.RNN, nn.GRU or nn.LSTM"
        )
    options: dict[str, Any] = {"bias": f"bias_ih{suffix}" in mine, "dtype": U.dtype}
    if gates == 1:
        options["nonlinearity"] = nonlinearity
    if suffix:
        layers = {int(found.group(1)) for key in mine if (found := re.search(r"_l(\d+)", key))}
        options |= {"num_layers": 1 + max(layers), "bidirectional": any(key.endswith("_reverse") for key in mine)}
        if projected is not None:
            options["proj_size"] = projected.shape[0]
    module = (CLASSES if suffix else CELLS)[gates](W.shape[1], hidden, **options)
    try:
        module.load_state_dict(mine)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {module}: {' '.join(str(error).split())[:300]}") from None
    return module


def _no_part(path: Any, name: str, parts: list[str]) -> str:
    if parts == [""]:
        return f"{path} is itself the recurrent part; leave --name {name} out"
    return f"{path} has no part named {name!r}; its recurrent parts are {parts}"


class _KeyError(ValueError):
    """The file is whole, and the array that is asked for is not in it."""


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    if key is None and len(names) != 1:
        raise _KeyError(f"{path} holds {names}; pass --key with one of them")
    if key is not None and key not in names:
        raise _KeyError(f"{path} has no array {key!r}; it holds {names}")
    return names[0] if key is None else key


def read_inputs(path: Path, key: str | None = None) -> Tensor:
    """Inputs (T, m) or (T, B, m) from a .npy or .npz file."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged archive open
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                found = found[_chosen(path, found.files, key)]
            elif key is not None:
                raise _KeyError(f"{path} holds one array without a name; leave --key {key} out")
    except (OSError, MemoryError, _KeyError):
        raise
    except Exception as error:  # a foreign or damaged file raises almost anything
        objects = "Object arrays" in str(error)
        what = "holds Python objects" if objects else "is damaged, or is no file of numpy.save or numpy.savez"
        raise ValueError(f"{path} {what}; save an array of numbers") from None
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
        raise ValueError(f"{path} holds {found.dtype}; pass real numbers")
    if found.ndim not in (2, 3) or not found.size:
        raise ValueError(f"{path} has shape {found.shape}; pass inputs (T, m) or (T, B, m) with time first")
    return torch.from_numpy(np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="))))
