"""Modules that contain recurrent ones: a copy in which each nn.RNN, nn.GRU, nn.LSTM is the faster drop-in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .protocol import Cell
from .recurrent import _Fused
from .results import Certificate, Report, Status

_CELLS = (nn.RNNCellBase,)
_STEPWISE = (
    "a cell is called once a step by a loop in Python, which cannot be replaced from outside; let the loop become one"
    " call of parallelize(cell) on the whole sequence"
)


class Parts:
    """What `parallelize` did in each recurrent part of a larger module, in its last call.

    parts : name -> `Report`, or None for a part that has not been called yet.
    left : name -> why this recurrent module was not replaced.
    """

    def __init__(self, modules: dict[str, Any], left: dict[str, str]):
        self._modules, self.left = modules, left

    @property
    def parts(self) -> dict[str, Report | None]:
        """name -> `Report` of the last call, None where there was none."""
        return {name: m.report if m._record is not None else None for name, m in self._modules.items()}

    def _called(self) -> dict[str, Report]:
        found = {name: report for name, report in self.parts.items() if report is not None}
        if not found:
            raise RuntimeError("there is no report before the first call of the module")
        return found

    @property
    def method(self) -> str:
        """ "sequential" or "torch" where all parts agree, else "mixed"."""
        found = {report.method for report in self._called().values()}
        return found.pop() if len(found) == 1 else "mixed"

    @property
    def worst(self) -> Report:
        """The report of the part that can be trusted least."""
        return max(self._called().values(), key=lambda r: (not r.certificate.ok, r.certificate.bound or 0.0))

    @property
    def certificate(self) -> Certificate:
        """That of the worst part: `ok` only where every part is."""
        return self.worst.certificate

    @property
    def status(self) -> Status:
        """That of the worst part."""
        return self.worst.status

    def explain(self) -> str:
        """A paragraph for each part, and why the others were left as they are."""
        lines = []
        for name, report in self.parts.items():
            text = "not called yet" if report is None else report.explain().replace("\n", "\n  ")
            lines.append(f"{name}:\n  {text}")
        return "\n".join(lines + [f"{name}: left as it is ({reason})" for name, reason in self.left.items()])

    def __repr__(self) -> str:
        called = {name: None if r is None else r.method for name, r in self.parts.items()}
        return f"Parts({called}, left={sorted(self.left)})"


def replaced(module: nn.Module, drop_in: Callable[[Any], Any], targets: tuple[type, ...]) -> nn.Module:
    """A copy of `module` that shares its parameters and buffers, with every part of exactly these types replaced.

    One module in several places stays one module. Whatever else the module holds (lists, bound methods, hooks) is
    copied by `copy.deepcopy`, so that references to a replaced part lead to its replacement.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("parallelize cannot look into a scripted module; pass the module that was given to torch.jit")
    memo: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    fast, left = {}, {}
    for name, part in module.named_modules():
        if type(part) in targets or (part is not module and isinstance(part, _Fused | Cell)):
            memo[id(part)] = fast[name] = drop_in(part)
        elif isinstance(part, _CELLS):
            left[name] = _STEPWISE
        elif isinstance(part, nn.RNNBase):
            left[name] = _subclass(part)
    if not fast:
        why = "".join(f"; {name or type(module).__name__}: {reason}" for name, reason in left.items())
        raise TypeError(
            "parallelize takes nn.RNN, nn.GRU or nn.LSTM, one of their cells, or a module that contains them, got"
            f" {type(module).__module__}.{type(module).__qualname__}, which has none{why}"
        )
    try:
        whole = copy.deepcopy(module, memo)
    except Exception as error:
        raise TypeError(
            f"{type(module).__qualname__} holds something that cannot be copied ({error}); replace its recurrent"
            " modules yourself: module.gru = parallelize(module.gru)"
        ) from error
    if not hasattr(type(module), "report") and not isinstance(getattr(module, "report", None), nn.Module):
        whole.__dict__["report"] = Parts(fast, left)
    return whole


def _subclass(part: nn.RNNBase) -> str:
    base = next(c for c in type(part).__mro__ if c in (nn.RNN, nn.GRU, nn.LSTM, nn.RNNBase))
    if hasattr(part, "parametrizations"):
        return (
            f"an nn.{base.__name__} is parametrized after parallelize, not before: the drop-in takes parametrizations"
        )
    return (
        f"{type(part).__qualname__} is a subclass of nn.{base.__name__}, whose forward may be another one; where it is"
        f" not, pass an nn.{base.__name__} with the same weights"
    )
