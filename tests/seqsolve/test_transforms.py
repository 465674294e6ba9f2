"""solve inside torch.func transforms is the loop inside them: by x0 and inputs, by the step's own tensors, by both."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import seqsolve as sq

from .test_implicit import loop, step_of, tensor

# torch's own first use of forward mode compiles its decompositions by torch.jit.script, which it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture
def case(rng):
    """B, c, x0, u, a batch of u, and the two functions of (x0, u, B) that must not differ."""
    B, c, x0, u, batch = (tensor(rng, *s, grad=False) for s in ((2, 2), (2,), (2,), (7, 2), (3, 7, 2)))

    def ours(x0, u, B=B):
        return sq.solve(step_of(B, c), x0, u, method="newton", tol=1e-15, window=3).states

    def theirs(x0, u, B=B):
        return loop(step_of(B, c), x0, u)

    return B, x0, u, batch, ours, theirs


def square(f):
    return lambda *t: f(*t).square().sum()


TRANSFORMS = {
    "jvp": lambda f, B, x0, u, batch: jvp(f, (x0, u), (torch.ones_like(x0), u.cos()))[1],
    "jvp of inputs": lambda f, B, x0, u, batch: jvp(lambda u: f(x0, u), (u,), (u.cos(),))[1],
    "grad": lambda f, B, x0, u, batch: torch.cat([g.flatten() for g in grad(square(f), (0, 1))(x0, u)]),
    "jacfwd": lambda f, B, x0, u, batch: jacfwd(f, 1)(x0, u),
    "jacrev": lambda f, B, x0, u, batch: jacrev(f)(x0, u),
    "hessian": lambda f, B, x0, u, batch: hessian(square(f))(x0, u),
    "forward twice": lambda f, B, x0, u, batch: jacfwd(jacfwd(square(f)))(x0, u),
    "backward twice": lambda f, B, x0, u, batch: jacrev(jacrev(square(f), 1), 0)(x0, u),
    "vmap": lambda f, B, x0, u, batch: vmap(f, (None, 0))(x0, batch),
    "vmap along time": lambda f, B, x0, u, batch: vmap(f, (None, 1), 1)(x0, batch.movedim(0, 1)),
    "vmap of x0": lambda f, B, x0, u, batch: vmap(f, (0, None))(batch[:, 0], u),
    "vmap of both, nested": lambda f, B, x0, u, batch: vmap(lambda x: vmap(lambda v: f(x, v))(batch))(batch[:, 0]),
    "vmap of a batch": lambda f, B, x0, u, batch: vmap(lambda v: f(batch[:, 0], v))(batch),
    "gradient a sample": lambda f, B, x0, u, batch: vmap(grad(square(f), 1), (None, 0))(x0, batch),
    "jvp by the step": lambda f, B, x0, u, batch: jvp(lambda B: f(x0, u, B), (B,), (B.cos(),))[1],
    "grad by the step": lambda f, B, x0, u, batch: grad(lambda B: square(f)(x0, u, B))(B),
    "vmap by the step": lambda f, B, x0, u, batch: vmap(lambda B: f(x0, u, B))(torch.stack([B, B / 2])),
    "vmap inside jvp by the step": lambda f, B, x0, u, batch: jvp(
        lambda B: vmap(lambda v: f(x0, v, B))(batch), (B,), (B.cos(),)
    )[1],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_of_the_solution_is_that_of_the_loop(name, case):
    B, x0, u, batch, ours, theirs = case
    run = TRANSFORMS[name]
    torch.testing.assert_close(run(ours, B, x0, u, batch), run(theirs, B, x0, u, batch), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("outer", ["vmap", "grad", "jvp"])
def test_parameters_outside_a_transform_have_their_gradient(outer, case):
    B, x0, u, batch, ours, theirs = case
    B = B.clone().requires_grad_()
    run = {
        "vmap": lambda f: vmap(lambda v: f(x0, v, B))(batch),
        "grad": lambda f: grad(lambda v: square(f)(x0, v, B))(u),
        "jvp": lambda f: jvp(lambda v: f(x0, v, B), (u,), (u.cos(),))[1],
    }[outer]
    mine, truth = (torch.autograd.grad(run(f).square().sum(), B)[0] for f in (ours, theirs))
    torch.testing.assert_close(mine, truth, rtol=1e-11, atol=1e-11)


def test_dual_numbers(case):
    B, x0, u, _, ours, theirs = case
    for arguments in ((x0.cos(), u.cos(), None), (None, None, B.cos())):
        tangents = []
        for f in (ours, theirs):
            with forward_ad.dual_level():
                given = (t if d is None else forward_ad.make_dual(t, d) for t, d in zip((x0, u, B), arguments))
                tangents.append(forward_ad.unpack_dual(f(*given)).tangent)
        torch.testing.assert_close(*tangents, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cells(kind, rng):
    module = sq.gallery.torch_init(kind, 3, 4, rng=rng, dtype=torch.float64)
    u, x0 = tensor(rng, 5, 12, 3, grad=False), torch.zeros(8 if kind == "lstm" else 4, dtype=torch.float64)
    truth = module(u.movedim(0, 1))[0].movedim(1, 0)
    states = vmap(lambda v: sq.solve(module, x0, v, tol=1e-14).states)(u)[..., :4]
    torch.testing.assert_close(states, truth, rtol=1e-12, atol=1e-12)
    weights = list(module.parameters())
    mine, theirs = (torch.autograd.grad(y.square().sum(), weights) for y in (states, truth))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_weights_given_by_functional_call(rng):
    cell = torch.nn.GRUCell(2, 3).double()
    u, x0 = tensor(rng, 6, 2, grad=False), torch.zeros(1, 3, dtype=torch.float64)

    def loss(weights, run):
        return run(lambda x, v: functional_call(cell, weights, (v.expand(*x.shape[:-1], 2).reshape(-1, 2),
                                                                x.reshape(-1, 3))).reshape(x.shape)).sum()  # fmt: skip

    weights = {k: v.detach() for k, v in cell.named_parameters()}
    mine = grad(lambda w: loss(w, lambda step: sq.solve(step, x0, u).states))(weights)
    theirs = grad(lambda w: loss(w, lambda step: loop(step, x0, u)))(weights)
    for name, g in theirs.items():
        torch.testing.assert_close(mine[name], g, rtol=1e-11, atol=1e-11)


def test_what_a_transformed_solution_says(case):
    B, x0, u, batch, _, _ = case
    found = []

    def certified(v):
        found.append(sq.solve(step_of(B, torch.ones(2).double()), x0, v))
        return found[-1].states

    vmap(certified)(batch)
    assert found[-1].ok  # the certificate is that of the whole batch
    vmap(lambda B: found.append(sq.solve(step_of(B, B[0]), x0, u)) or found[-1].states)(torch.stack([B, B]))
    assert not found[-1].ok
    assert "its steps run in order" in found[-1].explain()
    for name, value in (("model_sweeps", 2), ("guess", u)):
        with pytest.raises(ValueError, match=f"{name}= has no rule inside torch.func transforms"):
            vmap(lambda v: sq.solve(step_of(B, B[0]), x0, v, **{name: value}).states)(batch)  # noqa: B023
    assert jvp(lambda u: sq.solve(step_of(B, B[0]), x0, u[:0]).states, (u,), (u,))[1].shape == (0, 2)
