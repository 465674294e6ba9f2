"""Time split over 2 and 4 processes gives the numbers of one; a lost rank ends in an error on the others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seqsolve import distributed, solve
from seqsolve.attention import SoftmaxState, causal, online_softmax
from seqsolve.scan import affine_scan
from tests.conftest import ROOT
from tests.seqsolve.ranks import LENGTHS, RINGS, SCANS, problem, recurrences, weighted

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")


JOBS = (("agree", 2), ("agree", 4), ("leave", 3), ("hang", 3))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All jobs, each on its own processes, started once: the folder of what they saved and said."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("ranks.py")
    words = [str(word) for job in JOBS for word in job]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, str(script), str(folder), *words], env=environment, timeout=240, check=True)
    return folder


def said(folder, world):
    return [(folder / f"said{rank}").read_text() for rank in range(world)]


def expected():
    whole, out = problem(), {}
    for name, (structure, *keys) in SCANS.items():
        A, b, h0 = (whole[key].clone().requires_grad_() for key in keys)
        h = affine_scan(A, b, h0, structure=structure)
        weighted(h, 0, 11).backward()
        out |= {f"{name}.h": h, f"{name}.A": A.grad, f"{name}.b": b.grad, f"{name}.h0": h0.grad}
    for name, options in RINGS.items():
        q, k, v = (whole[x].clone().requires_grad_() for x in "qkv")
        o, state = causal(q, k, v, **options)
        ((o * whole["do"]).sum() + state.logsumexp.square().sum()).backward()
        out |= {
            f"{name}.o": o,
            f"{name}.lse": state.logsumexp,
            f"{name}.q": q.grad,
            f"{name}.k": k.grad,
            f"{name}.v": v.grad,
        }
    for name, step, parameters, x0, inputs, _ in recurrences():
        start, u = x0.clone().requires_grad_(), inputs.clone().requires_grad_()
        states = solve(step, start, u, method="sequential").states
        out[f"solve {name}.x"] = states
        if name != "poisoned":
            (states * whole["cotangent"]).sum().backward()
            out |= {f"solve {name}.u": u.grad, f"solve {name}.start": start.grad}
            out |= {f"solve {name}.p{i}": p.grad for i, p in enumerate(parameters)}
    out["merged"] = online_softmax(whole["q"], whole["k"], whole["v"])[0]
    return {name: x.detach().numpy() for name, x in out.items()}


@pytest.mark.parametrize("world", [2, 4])
def test_many_processes_give_the_numbers_of_one(ran, world):
    folder = ran / f"agree{world}"
    words = said(folder, world)
    found = [np.load(folder / f"{rank}.npz") for rank in range(world)]
    for name, whole in expected().items():
        parts = [each[name] for each in found]
        if name == "merged":
            assert all(np.array_equal(part, parts[0]) for part in parts)
            joined = parts[0]
        elif name.endswith((".h0", ".start")) or ".p" in name or name in ("constant.A", "modes.A"):
            joined = sum(parts)
        else:
            axis = 0 if name.split(".")[0] in SCANS or name.startswith("solve") else 2
            assert [part.shape[axis] for part in parts] == LENGTHS[world]
            joined = np.concatenate(parts, axis)
        np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-12, err_msg=name)
    assert all("SHAPES b has shape (2, " in text and "only the length in time may differ" in text for text in words)


@pytest.mark.parametrize("world", [2, 4])
def test_the_certificate_of_a_solve_over_ranks_is_one_for_all(ran, world):
    words = said(ran / f"agree{world}", world)
    for name, step, _, x0, inputs, _ in recurrences():
        lines = [re.search(rf"SOLVED {re.escape(name)} (\w+) (\w+) (\S+) (.*)", text) for text in words]
        assert len({line.groups()[:3] for line in lines}) == 1, lines
        alone = solve(step, x0, inputs)
        status, ok, bound = lines[0].groups()[:3]
        assert ok == str(alone.ok)
        if name == "poisoned":
            assert status == "NONFINITE"
        else:  # other random signs on other ranks: the same size
            assert alone.certificate.bound / 4 < float(bound) < 4 * alone.certificate.bound
    assert all("INPUTS inputs has shape (2" in text for text in words)


@pytest.mark.parametrize("job,world", [("leave", 3), ("hang", 3)])
def test_a_lost_rank_is_an_error_on_all_others(ran, job, world):
    words = said(ran / f"{job}{world}", world)
    for rank in range(world - 1):
        match = re.search(rf"LOST after ([\d.]+) s: rank {rank} of {world} lost rank ", words[rank])
        assert match, words[rank]
        assert "start all ranks again" in words[rank]
        if job == "leave":  # the closed connection is noticed; nobody waits for the timeout
            assert re.search(rf"lost rank (\d, )*{world - 1} while", words[rank])  # others may have left since


def test_without_a_group_the_sentence_says_what_to_call():
    x = torch.ones(2, 1)
    with pytest.raises(RuntimeError, match=r"call torch.distributed.init_process_group on every rank first"):
        distributed.affine_scan(x, x)


def test_misuse_is_answered_with_a_sentence():
    x = torch.ones(2, 1)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match=r"structure='lower' is unknown; pass one of scalar, diag, complex, block"):
            distributed.affine_scan(x, x, structure="lower")
        with pytest.raises(ValueError, match=r"A \(3, 1\) and b \(2, 1\) do not fit 'diag'"):
            distributed.affine_scan(torch.ones(3, 1), x)
        with pytest.raises(ValueError, match=r"A \(2, 3, 3\) and b \(2, 1\) do not fit 'block'; expected \(2, 1, 3\)"):
            distributed.affine_scan(torch.ones(2, 3, 3), x, structure="block")
        with pytest.raises(ValueError, match=r"A \(2, 1\) and b \(2, 1\) do not fit 'constant'; expected \(1, 1\)"):
            distributed.affine_scan(x, x, structure="constant")
        with pytest.raises(ValueError, match=r"are real; structure='complex' then takes pairs"):
            distributed.affine_scan(x, x, structure="complex")
        huge = torch.diag(torch.tensor([1e30, 0.5]))  # a mode that would overflow, and stays at zero
        silent = distributed.affine_scan(huge, torch.tensor([[0.0, 1.0]] * 9), structure="constant")
        assert bool(torch.isfinite(silent).all())
        with pytest.raises(ValueError, match=r"timeout=0 is not a positive number of seconds"):
            distributed.affine_scan(x, x, timeout=0)
        with pytest.raises(TypeError, match=r"time along their first axis"):
            distributed.affine_scan(x, 3.0)
        with pytest.raises(ValueError, match=r"method='newtn' is unknown; pass 'auto' or one of .*newton"):
            distributed.solve(torch.tanh, x, x, method="newtn")
        empty = distributed.solve(lambda h, u: h, x, torch.zeros(0, 2, 1))
        assert empty.status.name == "EMPTY"
        assert empty.states.shape == (0, 2, 1)
        exact = distributed.solve(
            lambda h, u: 0.5 * h + u + 1e-5 * (h.dim() > 1), x[0], x.expand(2, 1), method="sequential"
        )
        assert (exact.status.name, exact.certificate.kind) == ("SEQUENTIAL", "exact sequential")
        assert exact.certificate.residual > 1e-6  # of a step that gives something else where steps are stacked
        with pytest.raises(TypeError, match=r"expected a SoftmaxState"):
            distributed.merge(x)
        with pytest.raises(ValueError, match=r"they split one time axis"):
            distributed.ring_attention(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
        big = torch.full((1, 1, 2, 2), 1e30)
        with pytest.raises(FloatingPointError, match=r"overflow torch.float32 on rank 0"):
            distributed.ring_attention(big, big, big)
        state = SoftmaxState.empty(1, dv=2)
        assert torch.equal(distributed.merge(state).acc, state.acc)
    finally:
        torch.distributed.destroy_process_group()
