"""The processes of the distributed tests: ``python ranks.py <folder> <job> <world> ...``; not a test itself.

One process imports everything once and forks the ranks of each job, whose words go to <folder>/<job><world>/said<rank>.
"""

import os
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import numpy as np
import torch
import torch.distributed as dist

from seqsolve import distributed, solve
from seqsolve.attention import online_softmax
from seqsolve.scan import affine_scan

LENGTHS = {1: [11], 2: [4, 7], 4: [3, 0, 5, 3]}
SCANS = {  # name: structure, A, b, h0 of `problem`
    "diag": ("diag", "A", "b", "h0"),
    "dense": ("dense", "dense", "b", "h0"),
    "scalar": ("scalar", "scalar", "b", "h0"),
    "complex": ("complex", "complex", "z", "z0"),
    "turning": ("diag", "complex", "b", "h0"),
    "pairs": ("complex", "turn", "pairs", "start"),
    "block": ("block", "block", "wide", "wide0"),
    "constant": ("constant", "constant", "b", "h0"),
    "modes": ("constant", "modes", "z", "z0"),
}
RINGS = {"plain": {}, "window": {"window": 4}, "alibi": {"alibi": True}}


def problem():
    """The whole problem, the same on every rank."""
    rng = np.random.default_rng(2024)

    def draw(*shape):
        return torch.as_tensor(rng.standard_normal(shape))

    return {
        "A": 0.3 * draw(11, 2, 3),
        "dense": 0.3 * draw(11, 2, 3, 3),
        "scalar": 0.3 * draw(11),
        "b": draw(11, 2, 3),
        "h0": draw(2, 3),
        "q": draw(2, 4, 11, 4),
        "k": draw(2, 2, 11, 4),
        "v": draw(2, 2, 11, 5),
        "cotangent": draw(11, 2, 3),
        "complex": 0.4 * torch.complex(draw(11, 2, 3), draw(11, 2, 3)),
        "z": torch.complex(draw(11, 2, 3), draw(11, 2, 3)),
        "z0": torch.complex(draw(2, 3), draw(2, 3)),
        "turn": 0.4 * draw(11, 3, 2),
        "pairs": draw(11, 3, 2),
        "start": draw(3, 2),
        "block": 0.4 * draw(11, 2, 3, 2, 2),
        "wide": draw(11, 2, 6),
        "wide0": draw(2, 6),
        "constant": 0.4 * draw(3, 3),
        "modes": 0.4 * torch.complex(draw(3, 3), draw(3, 3)),
        "do": draw(2, 4, 11, 5),
    }


def weighted(h, first, last):
    """A real number that depends on every part of the states first..last-1."""
    weights = torch.cos(torch.arange(first, last, dtype=torch.float64)).reshape(-1, *[1] * (h.ndim - 1))
    return ((h * h.conj()).real * weights).sum() + (h.sum(-1) * (1 - 2j)).real.sum()


def recurrences():
    """Steps to solve over ranks: name, step, its parameters, x0, inputs, method."""
    whole = problem()
    generator = torch.Generator().manual_seed(2024)
    W = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    gru = torch.nn.GRU(3, 3).double()
    with torch.no_grad():
        for weight in gru.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    poisoned = whole["b"].clone()
    poisoned[5, 0, 1] = torch.nan
    for gain in (0.4, 1.5):
        A = (gain * W).requires_grad_()
        yield f"tanh {gain}", lambda x, u, A=A: torch.tanh(x @ A.T + u), [A], whole["h0"], whole["b"], "newton"
    yield "gru", gru, list(gru.parameters()), whole["h0"], whole["b"], "auto"
    yield "poisoned", lambda x, u: torch.tanh(0.5 * x + u), [], whole["h0"], poisoned, "newton"
    # the map that overflows from every guess but the true start: Newton's seams have to be left out
    yield "square", lambda x, u: x * x * 3 - 0.1 * u, [], 0 * whole["h0"], whole["b"].abs().clamp(max=0.3), "sequential"

    def uneven(x, u):  # rounds differently where steps are stacked: in order it is exact, and no residual shows that
        return torch.tanh(0.4 * x + u) + 1e-9 * (x.dim() > whole["h0"].dim())

    yield "uneven", uneven, [], whole["h0"], whole["b"], "sequential"


def agree(rank, world, folder):
    """Everything once, forward and backward; saved for the parent to compare with one process."""
    whole, lengths = problem(), LENGTHS[world]
    first, last = sum(lengths[:rank]), sum(lengths[: rank + 1])
    out = {}
    for name, (structure, *keys) in SCANS.items():
        A, b, h0 = (whole[key] for key in keys)
        A = (A if structure == "constant" else A[first:last]).clone().requires_grad_()
        b, h0 = b[first:last].clone().requires_grad_(), h0.clone().requires_grad_()
        h = distributed.affine_scan(A, b, h0, structure=structure)
        weighted(h, first, last).backward()
        out |= {f"{name}.h": h, f"{name}.A": A.grad, f"{name}.b": b.grad, f"{name}.h0": h0.grad}
    for name, options in RINGS.items():
        q, k, v = (whole[x][:, :, first:last].clone().requires_grad_() for x in "qkv")
        o, state = distributed.ring_attention(q, k, v, **options)
        ((o * whole["do"][:, :, first:last]).sum() + state.logsumexp.square().sum()).backward()
        out |= {
            f"{name}.o": o,
            f"{name}.lse": state.logsumexp,
            f"{name}.q": q.grad,
            f"{name}.k": k.grad,
            f"{name}.v": v.grad,
        }
    for name, step, parameters, x0, inputs, method in recurrences():
        start, u = x0.clone().requires_grad_(), inputs[first:last].clone().requires_grad_()
        sol = distributed.solve(step, start, u, method=method)
        out[f"solve {name}.x"] = sol.states
        print("SOLVED", name, sol.status.name, sol.ok, f"{sol.certificate.bound!r}", sol.reason)
        if name != "poisoned":
            (sol.states * whole["cotangent"][first:last]).sum().backward()
            out |= {f"solve {name}.u": u.grad, f"solve {name}.start": start.grad}
            out |= {
                f"solve {name}.p{i}": p.grad if last > first else torch.zeros_like(p) for i, p in enumerate(parameters)
            }
    _, mine = online_softmax(whole["q"], whole["k"][:, :, first:last], whole["v"][:, :, first:last])
    out["merged"] = distributed.merge(mine).output()
    try:
        distributed.affine_scan(torch.zeros(2, 3 + rank), torch.zeros(2, 3 + rank))
    except ValueError as error:
        print("SHAPES", error)
    try:
        distributed.solve(lambda x, u: x + u.sum(-1, keepdim=True), torch.zeros(2), torch.zeros(2, 3 + rank))
    except ValueError as error:
        print("INPUTS", error)
    np.savez(folder / f"{rank}.npz", **{n: x.detach().numpy() for n, x in out.items()})


def leave(rank, world, folder):
    """The last rank dies without a word."""
    x = torch.ones(3, 2)
    distributed.affine_scan(x, x, timeout=20)
    if rank == world - 1:
        os._exit(0)
    report(lambda: distributed.affine_scan(x, x, timeout=20))
    report(lambda: distributed.solve(torch.nn.GRUCell(2, 2), torch.zeros(2), x, timeout=20))


def hang(rank, world, folder):
    """The last rank stays alive and says nothing."""
    q = torch.ones(1, 1, 3, 2)
    distributed.ring_attention(q, q, q, timeout=20)
    if rank == world - 1:
        while not all((folder / f"done{r}").exists() for r in range(world - 1)):
            time.sleep(0.05)
        os._exit(0)
    report(lambda: distributed.ring_attention(q, q, q, timeout=1.5))
    (folder / f"done{rank}").touch()


def report(call):
    start = time.monotonic()
    try:
        call()
    except distributed.LostRankError as error:
        print(f"LOST after {time.monotonic() - start:.1f} s: {error}", flush=True)


def one_rank(job, rank, world, folder):
    sys.stdout = sys.stderr = open(folder / f"said{rank}", "w", buffering=1)  # noqa: SIM115
    try:
        store = dist.FileStore(str(folder / "store"), world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60))
        {"agree": agree, "leave": leave, "hang": hang}[job](rank, world, folder)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)  # without the goodbyes of a group that may be broken


def main(folder, jobs):
    torch.set_num_threads(1)
    whole = problem()
    for structure, *keys in SCANS.values():  # compiled before the forks
        A, b, h0 = (whole[key] for key in keys)
        affine_scan(A, b, h0, structure=structure, workers=1)
    for _, step, _, x0, inputs, method in recurrences():
        solve(step, x0, inputs.clone().requires_grad_(), method=method).states[:5].sum().backward()
    for job, world in zip(jobs[::2], map(int, jobs[1::2])):
        home = Path(folder) / f"{job}{world}"
        home.mkdir()
        children = []
        for rank in range(world):
            child = os.fork()
            if child == 0:
                one_rank(job, rank, world, home)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
