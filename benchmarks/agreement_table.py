"""How far the three forms of each linear recurrence are apart: ``python -m benchmarks.agreement_table`` prints it.

Every number is the largest difference to the step form, over the outputs, the last state and, for "backward", the
gradients of all arguments, relative to the largest number of the tensor.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from seqsolve import linear_attention
from seqsolve.attention import causal, online_softmax

FORMS = ("scan", "chunk")
DTYPES = (torch.float32, torch.float64)
STEPS = 150


def run(kind: str, dtype: torch.dtype, form: str) -> tuple[list[Tensor], list[Tensor]]:
    """(outputs and state, gradients by all arguments) of one form."""
    line = linear_attention.TABLE[kind]
    given = line.example(B=2, H=2, T=STEPS, dk=8, dv=8, dtype=dtype)
    given = {
        name: x.requires_grad_() if x.dtype.is_floating_point or x.is_complex() else x for name, x in given.items()
    }
    o, state = line.function(**given, form=form)
    forward = [o.detach(), (state if isinstance(state, Tensor) else state.output()).detach()]
    weights = torch.cos(torch.arange(o.numel(), dtype=o.dtype)).reshape(o.shape)
    wanted = [x for x in given.values() if x.requires_grad]
    return forward, list(torch.autograd.grad((o * weights).sum(), wanted))


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to each tensor."""
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(found, expected))


@cache
def table() -> dict[str, dict[tuple[str, str, str], float]]:
    """For each recurrence, the difference of (form, dtype, direction)."""
    rows = {}
    for kind in sorted(linear_attention.TABLE):
        row: dict[tuple[str, str, str], float] = {}
        for dtype in DTYPES:
            expected = run(kind, dtype, "step")
            for form in FORMS:
                found, short = run(kind, dtype, form), str(dtype).removeprefix("torch.")
                for direction, ours, theirs in zip(("forward", "backward"), found, expected):
                    row[form, short, direction] = apart(ours, theirs)
        rows[kind] = row
    return rows


def merged(dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Softmax states that read parts of the keys, merged, and the causal blocks, against the whole in float64."""
    generator = torch.Generator().manual_seed(7)
    q, k, v = torch.randn(3, 2, 4, 300, 16, generator=generator, dtype=torch.float64)
    exact, narrow = online_softmax(q, k, v)[0], (q.to(dtype), k.to(dtype), v.to(dtype))
    cuts = [0, 40, 41, 170, 300]
    parts = [online_softmax(narrow[0], narrow[1][:, :, a:b], narrow[2][:, :, a:b])[1] for a, b in pairwise(cuts)]
    forwards = parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3])
    tree = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    peer = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return {
        "four states merged in order": apart([forwards.output().double()], [exact]),
        "four states merged as a tree": apart([tree.output().double()], [exact]),
        "causal, blocks of 64": apart([causal(narrow[0], narrow[1], narrow[2], block=64)[0].double()], [peer]),
    }


def markdown() -> str:
    """The tables, for the manual."""
    rows = table()
    keys: list[Any] = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(" ".join(key) for key in keys) + " |", "|---" * (len(keys) + 1) + "|"]
    lines += [f"| {kind} | " + " | ".join(f"{row[key]:.0e}" for key in keys) + " |" for kind, row in rows.items()]
    lines += ["", "| float32 | apart |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {gap:.0e} |" for name, gap in merged().items())])


if __name__ == "__main__":
    print(markdown())
