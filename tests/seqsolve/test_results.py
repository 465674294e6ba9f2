"""Results are saved, loaded and printed."""

import numpy as np
import pytest
import torch

import seqsolve as sq


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, None])
def test_a_solution_is_saved_and_loaded(dtype, tmp_path, rng):
    u = rng.standard_normal((40, 2))
    inputs = u if dtype is None else torch.from_numpy(u).to(dtype).requires_grad_()
    x0 = np.zeros(2) if dtype is None else torch.zeros(2, dtype=dtype)
    solution = sq.solve(lambda x, u: torch.tanh(0.5 * x + u), x0, inputs, method="newton")
    path = solution.save(tmp_path / "solution")
    assert path.name == "solution.npz"
    again = sq.Solution.load(path)
    assert type(again.states) is type(solution.states)
    assert again.states.dtype == solution.states.dtype
    if dtype is None:
        np.testing.assert_array_equal(again.states, solution.states)
    else:
        assert torch.equal(again.states, solution.states.detach())
    assert again.certificate == solution.certificate
    assert again.explain() == solution.explain()
    assert repr(again) == repr(solution)
    np.testing.assert_array_equal(again.history, solution.history)


def test_files_that_are_no_solution(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match=r"holds \['a'\]; pass a file that Solution.save wrote"):
        sq.Solution.load(tmp_path / "other.npz")
