"""Laws that a recurrence of `seqsolve.linear_attention` obeys, as a class of tests that a new one inherits.

class TestMine(LinearRecurrenceLaws):
    name = "mine"

    def plain(self, S, q, k, v):          # one step of one head, numpy, as the paper writes it
        S = (0 if S is None else S) + np.outer(k, v)
        return S, q @ S
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from .attention.state import SoftmaxState
from .linear_attention import TABLE

FORMS = ("step", "scan", "chunk")


def scaled_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over ``eps * max(1, |expected|)``: some units of rounding."""
    found, expected = (torch.view_as_real(x) if x.is_complex() else x for x in (found.detach(), expected.detach()))
    if not found.numel():
        return 0.0
    scale = max(1.0, float(expected.abs().max()))
    return float((found - expected).abs().max()) / (torch.finfo(found.dtype).eps * scale)


class LinearRecurrenceLaws:
    """Forms agree forward and backward, states go in and out, bad numbers start at their step.

    Subclass it with `name`, an entry of ``linear_attention.TABLE``, and `plain`, the paper's step for one head.
    """

    name: str
    B, H, T, dk, dv = 2, 3, 11, 4, 5
    roundings = 500.0  # allowed error in units of eps

    def plain(self, S: Any, **inputs: np.ndarray) -> tuple[Any, np.ndarray]:
        """One step of one head in numpy: (S, o) from the state (None at first) and that step's inputs."""
        raise NotImplementedError(f"{type(self).__name__} needs the paper's step as `plain`")

    def inputs(self, dtype=torch.float64, **sizes) -> dict[str, Tensor]:
        """Random arguments from the table."""
        given = {"B": self.B, "H": self.H, "T": self.T, "dk": self.dk, "dv": self.dv, **sizes}
        return TABLE[self.name].example(**given, dtype=dtype, seed=11)

    def call(self, inputs: dict[str, Tensor], **options) -> tuple[Tensor, Any]:
        """The recurrence itself."""
        return TABLE[self.name].function(**inputs, **options)

    def cut(self, inputs: dict[str, Tensor], T: int, start: int, stop: int) -> dict[str, Tensor]:
        """Steps start..stop-1 of the inputs that have a time axis."""
        return {n: x[:, :, start:stop] if x.ndim >= 3 and x.shape[2] == T else x for n, x in inputs.items()}

    def numbers(self, state) -> list[Tensor]:
        """The state as a list of tensors of finite numbers."""
        return [state.output(), state.logsumexp] if isinstance(state, SoftmaxState) else [state]

    def test_equals_the_step_of_the_paper(self):
        inputs = {name: x.numpy() for name, x in self.inputs().items()}
        o, _ = self.call(self.inputs(), form="step")
        expected = np.empty(o.shape)
        for b, h in np.ndindex(self.B, self.H):
            S = None
            for t in range(self.T):
                now = {}
                for name, x in inputs.items():
                    timed = x.ndim >= 3 and x.shape[2] == self.T
                    now[name] = x[b, min(h, x.shape[1] - 1), t] if timed else x[h]
                S, expected[b, h, t] = self.plain(S, **now)
        assert scaled_error(o, torch.as_tensor(expected)) < self.roundings

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("T", [1, 70])
    def test_forms_agree_forward_and_backward(self, dtype, T):
        found = {}
        for form in FORMS:
            inputs = {name: x.requires_grad_() for name, x in self.inputs(dtype, T=T).items()}
            o, state = self.call(inputs, form=form)
            assert o.dtype == dtype
            ends = [x.abs().square().sum() for x in self.numbers(state)]
            loss = o.square().sum() + sum(ends[1:], ends[0])
            # at T = 1 some inputs (a decay of the empty state) have no say in the result
            grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
            found[form] = [o, *self.numbers(state), *grads]
        for form in ("scan", "chunk"):
            for one, other in zip(found[form], found["step"]):
                assert scaled_error(one, other) < self.roundings

    @pytest.mark.parametrize("chunk", [1, 3, 64])
    def test_chunks_of_any_length_agree(self, chunk):
        inputs = self.inputs(T=23)
        assert scaled_error(self.call(inputs, chunk=chunk)[0], self.call(inputs, form="step")[0]) < self.roundings

    @pytest.mark.parametrize("form", FORMS)
    def test_states_go_in_and_come_out(self, form):
        inputs = self.inputs()
        whole, end = self.call(inputs, form=form)
        pieces, state = [], None
        for start, stop in ((0, 4), (4, 4), (4, 5), (5, self.T)):
            o, state = self.call(self.cut(inputs, self.T, start, stop), state=state, form=form)
            pieces.append(o)
        assert scaled_error(torch.cat(pieces, 2), whole) < self.roundings
        for one, other in zip(self.numbers(state), self.numbers(end)):
            assert scaled_error(one, other) < self.roundings

    @pytest.mark.parametrize("form", FORMS)
    def test_gradients_reach_the_first_state(self, form):
        inputs = self.inputs(T=5)
        _, state = self.call(inputs)
        if isinstance(state, SoftmaxState):
            state = SoftmaxState(state.m, state.l, state.acc.clone().requires_grad_())
            leaf = state.acc
        else:
            state = leaf = state.clone().requires_grad_()
        o, _ = self.call(inputs, state=state, form=form)
        (grad,) = torch.autograd.grad(o.square().sum(), leaf)
        o, _ = self.call(inputs, state=state, form="step")
        (plain,) = torch.autograd.grad(o.square().sum(), leaf)
        assert float(plain.abs().max()) > 0
        assert float((grad - plain).abs().max()) < self.roundings * 2e-16 * max(1, float(plain.abs().max()))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_keeps_a_float32_state(self, dtype):
        inputs = {n: x if x.is_complex() else x.to(dtype) for n, x in self.inputs(torch.float32).items()}
        o, state = self.call(inputs)
        full, _ = self.call({n: x if x.is_complex() else x.float() for n, x in inputs.items()})
        assert o.dtype == dtype
        assert {x.dtype for x in self.numbers(state)} <= {torch.float32, torch.complex64}
        assert float((o.float() - full).abs().max()) <= torch.finfo(dtype).eps * float(full.abs().max())

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_bad_number_appears_from_exactly_its_step_on(self, form, bad):
        inputs = self.inputs()
        clean, _ = self.call(inputs, form=form)
        inputs["v"][1, 2, 6, 1] = bad
        o, _ = self.call(inputs, form=form)
        hit = torch.isnan(o)
        expected = torch.zeros_like(hit)
        expected[1, 2, 6:] = True
        assert torch.equal(hit, expected)
        assert scaled_error(o[~hit], clean[~hit]) < self.roundings

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("sizes", [{"T": 0}, {"B": 0}])
    def test_nothing_in_nothing_out(self, form, sizes):
        whole, full = self.call(self.inputs())
        o, state = self.call(self.inputs(**sizes), form=form)
        expected = [self.B, self.H, self.T, *whole.shape[3:]]
        expected[{"B": 0, "T": 2}[next(iter(sizes))]] = 0
        assert list(o.shape) == expected
        assert [x.shape[1:] for x in self.numbers(state)] == [x.shape[1:] for x in self.numbers(full)]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_second_derivative_exists(self, form):
        inputs = {name: x.requires_grad_() for name, x in self.inputs(B=1, H=1, T=3, dk=2, dv=2).items()}
        names = [name for name, x in inputs.items() if not x.is_complex()]

        def function(*values):
            return self.call({**inputs, **dict(zip(names, values))}, form=form)[0]

        assert torch.autograd.gradgradcheck(function, [inputs[name] for name in names], fast_mode=True)

    def test_the_table_describes_it(self):
        entry = TABLE[self.name]
        assert repr(entry).startswith(f"{self.name}: S <- ")
        assert entry.function.__doc__
        assert all(
            word in entry.function.__doc__ for word in ("state :", "form :", "chunk :", "Examples", "References")
        )
