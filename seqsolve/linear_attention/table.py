"""The table of linear recurrences: what each forgets, writes and reads; and the one driver that runs them all."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqsolve._prefix import check_form
from seqsolve.attention import _checks
from seqsolve.attention.state import SoftmaxState

from .channelwise import ChannelParts, SoftmaxParts
from .gated import GatedParts
from .matrix import MatrixParts
from .selective import SelectiveParts

Plain = MatrixParts | ChannelParts | SoftmaxParts | SelectiveParts
Parts = Plain | GatedParts
State = Tensor | SoftmaxState

TABLE: dict[str, "Recurrence"] = {}


@dataclass(frozen=True)
class Sampler:
    """Random inputs of one size, for examples, conformance tests and benchmarks."""

    B: int
    H: int
    T: int
    dk: int
    dv: int
    dtype: torch.dtype
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in (0, 1)."""
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-3).to(self.dtype)

    def keys(self) -> Tensor:
        """(B, H, T, dk), of length about 1."""
        return self.normal(self.B, self.H, self.T, self.dk) / self.dk**0.5

    def values(self) -> Tensor:
        """(B, H, T, dv)."""
        return self.normal(self.B, self.H, self.T, self.dv)

    def complex(self, *shape: int) -> Tensor:
        """Complex normal numbers."""
        return torch.complex(self.normal(*shape).float(), self.normal(*shape).float()).to(
            torch.complex128 if self.dtype == torch.float64 else torch.complex64
        )


@dataclass(frozen=True)
class Recurrence:
    """One line of the table.

    Parameters
    ----------
    name : as in ``seqsolve.linear_attention.<name>``.
    decay, update, read : the three formulas, as a person reads them.
    function : the public function.
    sample : ``sample(Sampler) -> dict`` of arguments, for examples and tests.
    """

    name: str
    decay: str
    update: str
    read: str
    function: Callable[..., tuple[Tensor, Any]]
    sample: Callable[[Sampler], dict[str, Tensor]]

    def example(self, B=1, H=2, T=16, dk=4, dv=4, dtype=torch.float32, seed=7) -> dict[str, Tensor]:
        """Random arguments of the function: ``function(**example())``."""
        return self.sample(Sampler(B, H, T, dk, dv, dtype, torch.Generator().manual_seed(seed)))

    def __repr__(self) -> str:
        return f"{self.name}: S <- {self.decay} + {self.update}; o = {self.read}"


COMMON = """
    state : what an earlier call returned, or None to start from nothing.
    form : "step" (one step after the other, constant memory), "scan" (all prefixes, 2 log2 T deep) or "chunk"
        (matrix products inside chunks). They give the same numbers to rounding, forward and backward.
    chunk : steps a chunk of the chunk form; None chooses.
    check_finite : look for NaN and infinity. One at step t then gives NaN from exactly step t on (a bad query spoils
        its own output only), and finite inputs that overflow raise; False saves a pass over the inputs.
"""


def recurrence(*, decay: str, update: str, read: str, sample: Callable[[Sampler], dict[str, Tensor]]):
    """Make a public function of one that returns the parts of a recurrence, and enter it into the table.

    The decorated function says what is forgotten, written and read; ``state=``, ``form=``, ``chunk=`` and
    ``check_finite=``, the checks and the three forms come from here.
    """

    def decorate(prepare: Callable[..., tuple[Parts, Callable[[Tensor], Tensor] | None]]):
        own = inspect.signature(prepare)

        @functools.wraps(prepare)
        def function(*args, state=None, form="chunk", chunk=None, check_finite=True, **kwargs):
            check_form(form)
            if chunk is not None:
                _checks.positive("chunk", chunk, "the number of steps a chunk")
            try:
                given = own.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{prepare.__name__}: {error}; it takes {own}") from None
            parts, finish = prepare(*given.args, **given.kwargs)
            vouched = isinstance(parts, GatedParts) and finish is None  # the last average speaks for those before it
            finish = finish or (lambda o: o)
            o, new, sound = run(parts, state, form, chunk, check_finite)
            o = finish(o)
            if check_finite and sound and not _all_finite(None if vouched else o, new):
                # Inside a chunk what overflows late also spoils what came before: the steps tell when it was, or that
                # only the products of the chunk overflowed.
                if form != "step":
                    o, new, _ = run(parts, state, "step", None, check_finite)
                    o = finish(o)
                if not _all_finite(o, new):
                    raise FloatingPointError(_overflow(prepare.__name__, o))
            return o.to(given.arguments["v"].dtype), new

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in (("state", None), ("form", "chunk"), ("chunk", None), ("check_finite", True))
        ]
        function.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
        function.__doc__ = _with_common(prepare.__doc__ or "")
        TABLE[prepare.__name__] = Recurrence(prepare.__name__, decay, update, read, function, sample)
        return function

    return decorate


def _with_common(text: str) -> str:
    head, mark, tail = text.partition("\n    Returns\n")
    return head.rstrip() + COMMON + mark + tail


def run(
    parts: Parts, state: State | None, form: str, chunk: int | None, check_finite: bool
) -> tuple[Tensor, State, bool]:
    """(o, state, whether all inputs were finite): one driver for every recurrence, form and kind of state."""
    state = parts.empty() if state is None else _fitting(state, parts.empty())
    if (parts.write if isinstance(parts, ChannelParts) else parts.k).shape[2] == 0:
        return parts.nothing(), state, False
    if isinstance(parts, GatedParts):
        found = parts.fused(state, form, chunk)  # type: ignore[arg-type]
        if found is not None and (not check_finite or _checks.is_finite(found[1])):
            return *found, True
        parts = parts.written_out()
    bad_q, bad = _bad_steps(parts) if check_finite else (None, None)
    if bad is None or bad_q is None:
        o, new = parts.run(state, form, chunk)  # type: ignore[arg-type]
        return o, new, True
    parts = replace(parts, **{name: _cleaned(name, x) for name, x in parts.tensors().items()})
    o, new = parts.run(state, form, chunk)  # type: ignore[arg-type]
    gone = bad.cummax(-1).values.bool()  # a bad number stays in the state for good
    rows = (gone | bad_q).reshape(*gone.shape, *(1,) * (o.ndim - 3))
    return torch.where(rows, torch.nan, o), _spoilt(new, gone[..., -1]), False


def _fitting(state: State, like: State) -> State:
    if isinstance(like, SoftmaxState):
        if not isinstance(state, SoftmaxState) or state.acc.shape != like.acc.shape:
            raise ValueError(f"state is {state!r}, expected {like!r}; pass what an earlier call returned, or None")
        return state
    if not isinstance(state, Tensor) or state.shape != like.shape:
        shape = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        raise ValueError(f"state is {shape}, expected {tuple(like.shape)}; pass what an earlier call returned, or None")
    return state.to(like.device, like.dtype)


def _bad_steps(parts: Plain) -> tuple[Tensor | None, Tensor | None]:
    """(queries, steps) of shape (B, H, T) that hold NaN or infinity; None where there are none. Decays may be 0."""
    tensors = parts.tensors()
    suspects = {}
    for name, x in tensors.items():
        x = torch.view_as_real(x) if x.is_complex() else x
        if not x.numel() or (_checks.is_finite(x)):
            continue
        found = ~torch.isfinite(x)
        if name == "log_decay":
            found = found & (x != -torch.inf)
        if bool(found.any()):
            suspects[name] = found.flatten(3).any(-1)
    if not suspects:
        return None, None
    like = parts.write if isinstance(parts, ChannelParts) else parts.v
    none = torch.zeros(like.shape[:3], dtype=torch.int8, device=like.device)
    steps, queries = none, none.bool()
    for name, found in suspects.items():
        if name in ("q", "gate"):
            queries = queries | found
        else:
            steps = torch.maximum(steps, found.to(torch.int8).expand_as(steps))
    return queries, steps


def _cleaned(name: str, x: Tensor) -> Tensor:
    """0 in place of what is not finite; a decay to 0, log_decay = -inf, is meant and stays."""
    if x.is_complex():
        return torch.complex(_cleaned(name, x.real), _cleaned(name, x.imag))
    good = torch.isfinite(x)
    if name == "log_decay":
        good = good | (x == -torch.inf)
    return torch.where(good, x, torch.zeros_like(x))


def _spoilt(state: State, gone: Tensor) -> State:
    if isinstance(state, SoftmaxState):
        m, l, acc = (_spoilt(x, gone) for x in (state.m, state.l, state.acc))  # noqa: E741
        return SoftmaxState(m, l, acc)  # type: ignore[arg-type]
    return torch.where(gone.reshape(*gone.shape, *(1,) * (state.ndim - 2)), torch.nan, state)


def _all_finite(o: Tensor | None, state: State) -> bool:
    final = state.acc if isinstance(state, SoftmaxState) else state
    return (o is None or _checks.is_finite(o)) and _checks.is_finite(
        torch.view_as_real(final) if final.is_complex() else final
    )


def _overflow(name: str, o: Tensor) -> str:
    """The sentence for finite inputs with outputs `o` of the step form, or a last state, that are not finite."""
    steps = (~torch.isfinite(o)).flatten(3).any(-1).any(0).any(0)
    when = f"at step {int(steps.int().argmax())}" if bool(steps.any()) else "in the state after the last step"
    return (
        f"{name}: finite inputs overflow {o.dtype} {when}: the state grows without bound (a decay above 1, or keys too "
        "long for the delta rule: beta |k|^2 must stay below 2), or a normaliser is 0; scale the inputs down or pass "
        "float64"
    )
