"""torch's fused kernels inside `causal`: the same states, merges and gradients as the blocks."""

import itertools

import pytest
import torch

from seqsolve.attention import SoftmaxState, causal, online_softmax
from seqsolve.attention.fused import ALIGNED, CPU, EFFICIENT, FLASH, Kernel, kernel_for, spans

ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DTYPES = tuple(ROUNDING)


def case(rng, B=2, H=4, heads=2, Tq=9, Tk=9, d=8, dtype=torch.float64, device="cpu"):
    shapes = (B, H, Tq, d), (B, heads, Tk, d), (B, heads, Tk, d)
    return [torch.as_tensor(rng.standard_normal(shape)).to(device, dtype) for shape in shapes]


def apart(found, expected):
    return float((found.detach().double() - expected.detach().double()).abs().max())


def same_as_blocks(q, k, v, **options):
    """Both methods, against blocks in float64: outputs, sums and gradients."""
    tolerance = ROUNDING[q.dtype]
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    given = [x.detach().requires_grad_() for x in (q, k, v)]
    o, state = causal(*given, method="fused", **options)
    expected, whole = causal(*wide, method="blocks", **options)
    assert o.dtype == q.dtype
    assert state.acc.dtype == state.m.dtype == (torch.float64 if q.dtype == torch.float64 else torch.float32)
    assert apart(o, expected) < tolerance * 3
    assert apart(state.output(), whole.output()) < tolerance * 3
    assert apart(state.logsumexp, whole.logsumexp) < max(tolerance / 300, 1e-5 if q.dtype != torch.float64 else 1e-13)
    weights = torch.cos(torch.arange(o.numel(), device=o.device)).reshape(o.shape)
    found = torch.autograd.grad((o * weights.to(o.dtype)).sum(), given)
    for mine, theirs in zip(found, torch.autograd.grad((expected * weights).sum(), wide)):
        assert apart(mine, theirs) < tolerance * 12
    with torch.no_grad():  # the short way of a call that learns nothing
        assert apart(causal(q, k, v, **options)[0], expected) < tolerance * 3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("Tq,Tk", [(9, 9), (1, 9), (3, 9), (1, 1)])
def test_the_kernel_of_the_cpu_gives_the_states_of_the_blocks(rng, dtype, heads, Tq, Tk):
    same_as_blocks(*case(rng, heads=heads, Tq=Tq, Tk=Tk, dtype=dtype))


@pytest.mark.parametrize("offset", [0, 2, 5, 8, 20])
def test_queries_may_stand_anywhere_among_the_keys(rng, offset):
    same_as_blocks(*case(rng, Tq=4), offset=offset)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roundings_of_half_precision_do_not_add_up(rng, dtype):
    """Each part is rounded once and their weights sum to one: a hundred parts are as good as two."""
    q, k, v = case(rng, Tq=3, Tk=300, dtype=dtype)
    exact, whole = online_softmax(*(x.double() for x in (q, k, v)))
    state = SoftmaxState.empty(2, 4, 3, dv=8)
    for low in range(0, 300, 3):
        state = state.update(q, k[:, :, low : low + 3], v[:, :, low : low + 3])
    assert apart(state.output(), exact) < ROUNDING[dtype] * 2
    assert apart(state.logsumexp, whole.logsumexp) < 1e-5


def test_half_precision_that_overflows_its_kernel_is_computed_wide(rng):
    q, k, v = case(rng, dtype=torch.float16)
    o, _ = causal(q, k, 6e4 * torch.ones_like(v))
    assert apart(o, torch.full_like(o, 6e4)) <= 32  # one unit in the last place
    k[0, 0, 4, 0] = torch.nan
    assert torch.isnan(causal(q, k, v)[0]).any((1, 3)).tolist() == [[False] * 4 + [True] * 5, [False] * 9]


def test_a_gradient_of_the_sums_and_a_second_one_go_through_the_blocks(rng):
    q, k, v = (x.requires_grad_() for x in case(rng, B=1, H=2, heads=1, Tq=2, Tk=3, d=2))

    def function(q, k, v):
        o, state = causal(q, k, v, method="fused")
        return o, state.logsumexp

    assert torch.autograd.gradcheck(function, (q, k, v))
    assert torch.autograd.gradgradcheck(function, (q, k, v))


def test_which_kernel_serves_which_tensors():
    assert kernel_for("cpu", torch.float64, 999) is CPU
    assert kernel_for("cuda", torch.bfloat16, 64) is FLASH
    assert kernel_for("cuda", torch.float32, 64) is EFFICIENT
    assert kernel_for("cuda", torch.float64, 64) is None
    assert kernel_for("cuda", torch.float16, 257) is None
    assert kernel_for("mps", torch.float32, 64) is None


def test_square_kernels_are_given_squares(rng, monkeypatch):
    q, k, v = case(rng, Tq=4, Tk=9)
    assert spans(q, k, v, True, 5) == [(0, 5, False), (5, 9, True)]
    assert spans(q, k, v, True, 7) == [(0, 7, False), (7, 9, True)]
    monkeypatch.setattr("seqsolve.attention.fused.kernel_for", lambda *_: CPU._replace(square=True))
    assert spans(q, k, v, True, 5) == [(0, 5, False), (5, 9, True)]
    assert spans(q, k, v, True, 7) is None
    assert spans(q, k, v, True, -1) is None
    monkeypatch.setattr("seqsolve.attention.fused.kernel_for", lambda *_: None)
    assert spans(q, k, v, False, 0) is None


@pytest.mark.parametrize(
    "kernel,dtype", [(FLASH, torch.bfloat16), (EFFICIENT, torch.float32)], ids=["flash", "efficient"]
)
@pytest.mark.parametrize("d", [8, 20])
def test_the_kernels_of_a_gpu_take_and_return_what_the_path_expects(kernel: Kernel, dtype, d):
    """On the "meta" device torch checks the calls and their shapes, not the numbers."""
    q, k, v = (torch.empty(2, 3, 5, d, dtype=dtype, device="meta") for _ in range(3))
    o, lse, kept = kernel.forward(q, k, v, True, 0.5)
    assert o.shape == q.shape
    assert lse.shape == q.shape[:3]
    assert lse.dtype == torch.float32
    assert ALIGNED == 8
    grads = kernel.backward(o, q, k, v, o, lse, kept, True, 0.5)
    assert [x.shape for x in grads] == [q.shape] * 3


GPU_CASES = list(
    itertools.product((torch.float16, torch.bfloat16, torch.float32), (1, 4), ((64, 64), (1, 70), (5, 70)))
)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype,heads,lengths", GPU_CASES)
@pytest.mark.parametrize("d", [16, 20])
def test_the_kernels_of_a_gpu_give_the_states_of_the_blocks(rng, dtype, heads, lengths, d):
    same_as_blocks(*case(rng, heads=heads, Tq=lengths[0], Tk=lengths[1], d=d, dtype=dtype, device="cuda"))


@pytest.mark.gpu
def test_states_merge_on_a_gpu(rng):
    q, k, v = case(rng, Tq=7, Tk=40, d=16, dtype=torch.bfloat16, device="cuda")
    _, early = causal(q, k[:, :, :20], v[:, :, :20], offset=33)
    o, _ = causal(q, k[:, :, 20:], v[:, :, 20:], early, offset=13)
    assert apart(o, causal(q.double(), k.double(), v.double())[0]) < 3e-2
