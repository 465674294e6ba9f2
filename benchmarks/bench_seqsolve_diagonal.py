"""A GRU whose units see only themselves, the cell that parallel Newton methods are trained with, beside pararnn-torch.

h <- (1 - z) h + z n with z = s(a h + W u), r = s(b h + V u), n = tanh(c r h + U u), element by element (Danieli et al.
2025, "ParaRNN", arXiv:2510.21450). Its Jacobians are diagonal, so a sweep of Newton's method is an element-wise scan.
pararnn-torch pins another triton than ours; ``pip install --no-deps pararnn-torch`` is enough for its eager path on a
CPU. Its step is handed to `solve` as it is, and the same cell is written as a `Cell`.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

import seqsolve as sq
from benchmarks import peers
from benchmarks.ratios import Race, race

UNITS, SEED, PEER = (8, 32, 128), 20317, "pararnn"


class DiagonalGRU(sq.Cell):
    """The cell with its weights as tensors: W (3 H, H), its bias, and a, b, c (H)."""

    structure = "diag"

    def __init__(self, units: int, generator: torch.Generator):
        super().__init__()
        self.state_size, bound = units, units**-0.5

        def uniform(*shape):
            return nn.Parameter(bound * (2 * torch.rand(*shape, generator=generator) - 1))

        self.weight, self.bias = uniform(3 * units, units), uniform(3 * units)
        self.own = uniform(3, units)

    def project(self, u: Tensor) -> Tensor:
        return nn.functional.linear(u, self.weight, self.bias)

    def step_parameters(self) -> tuple[Tensor, ...]:
        return (self.own,)

    def step(self, x: Tensor, a: Tensor, params) -> Tensor:
        own, (z, r, n) = params[0], a.chunk(3, -1)
        gate = torch.sigmoid(own[0] * x + z)
        return torch.lerp(x, torch.tanh(own[2] * torch.sigmoid(own[1] * x + r) * x + n), gate)

    def jacobian(self, x: Tensor, a: Tensor, params) -> Tensor:
        """The diagonals in closed form, as the peer has them."""
        own, (z, r, n) = params[0], a.chunk(3, -1)
        z, r = torch.sigmoid(own[0] * x + z), torch.sigmoid(own[1] * x + r)
        n = torch.tanh(own[2] * r * x + n)
        inner = own[2] * (1 - n * n) * r * (1 + own[1] * (1 - r) * x)
        return 1 - z + z * (1 - z) * own[0] * (n - x) + z * inner

    @staticmethod
    def kernel(x, a, params, new):
        """The same for numba."""
        (own,) = params
        units = x.shape[0]
        for i in range(units):
            z = 1 / (1 + np.exp(-own[0, i] * x[i] - a[i]))
            r = 1 / (1 + np.exp(-own[1, i] * x[i] - a[units + i]))
            new[i] = x[i] + z * (np.tanh(own[2, i] * r * x[i] + a[2 * units + i]) - x[i])


def _theirs(cell: DiagonalGRU, u: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The same weights in pararnn-torch: its Newton as it comes (3 sweeps, no check of the states), and its loop."""
    peer = peers.load(PEER)
    if peer is None:
        return {}
    twin = peer.ParaGRU(cell.state_size, cell.state_size)
    with torch.no_grad():
        for name, value in zip(("a_z", "a_r", "a_n"), cell.own, strict=True):
            getattr(twin, name).copy_(value)
        twin.W_x.weight.copy_(cell.weight)
        twin.W_x.bias.copy_(cell.bias)
    parallel = peer.ParaRNN(twin, config=peer.NewtonConfig(max_iters=3)).train()
    ordered = peer.ParaRNN(twin).eval()
    return {
        "pararnn-torch, Newton": lambda: parallel(u[:, None].transpose(0, 1))[0],
        "pararnn-torch, loop": lambda: ordered(u[:, None].transpose(0, 1))[0],
        "its step in solve, auto": lambda: sq.solve(twin.step, torch.zeros(cell.state_size), u).states,
    }


def diagonal(units: int, steps: int, rounds: int) -> Race:
    """Forward of the cell: compiled loop, Newton with diagonal Jacobians, and the peer's own."""
    generator = torch.Generator().manual_seed(SEED)
    cell = DiagonalGRU(units, generator).requires_grad_(False)
    u, zero = torch.randn(steps, units, generator=generator), torch.zeros(units)
    fast, twin = sq.parallelize(cell), DiagonalGRU(units, generator).double().requires_grad_(False)
    twin.load_state_dict(cell.state_dict())
    exact = twin(u.double())[0]
    theirs = _theirs(cell, u)
    return race(
        f"GRU({units}) with diagonal recurrence, {steps} steps",
        {
            "seqsolve, a Cell": lambda: fast(u)[0],
            "solve, newton": lambda: sq.solve(cell, zero, u, method="newton").states,
            **theirs,
        },
        rounds=rounds,
        absent={} if theirs else {"pararnn-torch": peers.why_absent(PEER)},
        error=lambda y: float((torch.as_tensor(y).double().reshape(exact.shape) - exact).abs().max()),
    )


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    for units in (32,) if quick else UNITS:
        yield diagonal(units, 512 if quick else 4096, 5 if quick else 7)


class Diagonal:
    """Ratios to pararnn-torch on a CPU, NaN without it."""

    params = (UNITS,)
    param_names = ("units",)
    timeout = 600

    def setup_cache(self):
        return {units: diagonal(units, 4096, 7) for units in UNITS}

    def track_ratio_cell_newton(self, found, units):
        """Time of our compiled cell over that of the peer's Newton."""
        return self._ratio(found[units], "seqsolve, a Cell", "pararnn-torch, Newton")

    def track_ratio_newton_newton(self, found, units):
        """Time of our Newton, residual checked, over that of the peer's three sweeps."""
        return self._ratio(found[units], "solve, newton", "pararnn-torch, Newton")

    def track_error(self, found, units):
        """Largest difference to float64."""
        return found[units].error["seqsolve, a Cell"]

    def _ratio(self, contest: Race, ours: str, theirs: str) -> float:
        return contest.ratio(ours, theirs).median if theirs in contest.wall else float("nan")
