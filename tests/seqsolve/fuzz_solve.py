"""Random recurrences against the loop in float64: is there a solve that says ok and is wrong?

    python tests/seqsolve/fuzz_solve.py --cases 10000 --seed 20310

Gain 0.1 to 6, n 1 to 32, T in {1, 2, 7, 1000, 4097}, float32 and float64, user steps and known cells, NaN and inf
injected into one input, every method and "auto" in turn. A case fails where `ok` is true and the states are off by more
than 1e-4 of their scale, or where a state that is not finite stands at another step than in the loop.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import seqsolve as sq

LENGTHS = (1, 2, 7, 1000, 4097)
METHODS = ("auto", *sq.METHODS)


def reference(A: np.ndarray, x: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """x <- tanh(A x + u) in float64."""
    out = np.empty((len(inputs), len(x)))
    with np.errstate(all="ignore"):
        for t in range(len(inputs)):
            x = np.tanh(A @ x + inputs[t])
            out[t] = x
    return out


def case(number: int, seed: int, lengths=LENGTHS, cells: bool = True) -> tuple[str, str]:
    """One recurrence by one method: the outcome, and what went wrong ("" where nothing did)."""
    rng = np.random.default_rng([seed, number])
    method = METHODS[number % len(METHODS)]
    gain, n, T = rng.uniform(0.1, 6), int(rng.integers(1, 33)), int(rng.choice(lengths))
    dtype = (torch.float32, torch.float64)[rng.integers(2)]
    cell = bool(rng.integers(2)) and cells
    window = [None, 3, 16, 200][rng.integers(4)]
    if method == "elk" and window == 200:
        window = 16
    A = torch.from_numpy(gain / n**0.5 * rng.standard_normal((n, n))).to(dtype)
    u = torch.from_numpy(rng.uniform(0, 1) * rng.standard_normal((T, n))).to(dtype)
    x0 = torch.from_numpy(rng.standard_normal(n)).to(dtype)
    bad = int(rng.integers(T)) if rng.random() < 0.15 else None
    if bad is not None:
        u[bad, rng.integers(n)] = float("nan")
    elif rng.random() < 0.1:
        u[int(rng.integers(T)), rng.integers(n)] = float(rng.choice([np.inf, -np.inf]))  # tanh makes it 1 again
    if cell:
        step = torch.nn.RNN(n, n, bias=False, dtype=dtype)
        step.load_state_dict({"weight_ih_l0": torch.eye(n), "weight_hh_l0": A})
        if not torch.isfinite(u).all() and bad is None:  # 0 * inf in the product with the input weights
            u = u.nan_to_num(0, 50.0, -50.0)
    else:

        def step(x, v):
            return torch.tanh(x @ A.T + v)

    with torch.no_grad():
        solution = sq.solve(step, x0, u, method=method, window=window or "auto")
    truth = reference(A.double().numpy(), x0.double().numpy(), u.double().numpy())
    states = solution.states.double().numpy()
    first = [int(np.append(~np.isfinite(s).all(1), True).argmax()) for s in (states, truth)]
    told = f"case {number}: {method}, gain {gain:.3f}, n {n}, T {T}, {dtype}, cell {cell}, window {window}"
    if first[0] != first[1]:
        return solution.status.name, f"{told}: not finite from step {first[0]}, in the loop from {first[1]}"
    if solution.ok:
        error = float(np.abs(states - truth).max()) / max(float(np.abs(truth).max()), 1e-300)
        if not error <= 1e-4:
            return solution.status.name, f"{told}: ok, and off by {error:.1e}; {solution.explain()}"
    elif bad is None and solution.status.name not in ("CHAOTIC", "SENSITIVE", "REPAIRED"):
        return solution.status.name, f"{told}: {solution.explain()}"
    return solution.status.name, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20310)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcomes, failures, start = Counter(), [], time.perf_counter()
    for number in range(options.first, options.first + options.cases):
        status, wrong = case(number, options.seed)
        outcomes[status] += 1
        if wrong:
            failures.append(wrong)
            print(wrong, flush=True)
        if (number + 1) % 500 == 0:
            print(f"{number + 1} cases, {time.perf_counter() - start:.0f} s, {dict(outcomes)}", flush=True)
    print(f"{options.cases} cases, {len(failures)} failures, {dict(outcomes)}, {time.perf_counter() - start:.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
