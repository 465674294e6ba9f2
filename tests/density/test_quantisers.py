"""Stand-ins for rounding: their limits, inverses and gradients."""

import pytest
import torch

from density.quantisers import quantise, soft_round, soft_round_inverse, soft_round_mean


@pytest.fixture
def v(rng):
    return torch.tensor(rng.normal(size=500) * 4)


@pytest.mark.parametrize("sharpness", [0, 1e-4, 1e-2, 0.5, 4, 12])
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_soft_rounding_is_inverted(v, sharpness, dtype, bound):
    v = v.to(dtype)
    assert torch.allclose(soft_round_inverse(soft_round(v, min(sharpness, 8)), min(sharpness, 8)), v, atol=bound)
    assert torch.isfinite(soft_round_inverse(torch.arange(-4, 4, 0.5, dtype=dtype), sharpness)).all()


def test_soft_rounding_goes_from_the_identity_to_rounding(v):
    assert torch.allclose(soft_round(v, 1e-2), v, atol=1e-5)
    inside = (v - torch.floor(v) - 0.5).abs() > 0.2
    assert torch.allclose(soft_round(v, 12.0)[inside], torch.round(v)[inside], atol=0.01)
    for sharpness in (0.3, 4.0):
        assert torch.allclose(soft_round(v + 1, sharpness), soft_round(v, sharpness) + 1)
        assert (soft_round(torch.linspace(-3, 3, 999), sharpness).diff() > 0).all()


def test_the_mean_of_what_was_soft_rounded_is_its_own_bin(v):
    """Agustsson and Theis (2020), section 4.1: r(w) is the middle of the values that can have led to w."""
    w = soft_round(v, 3.0) + 0.3
    low, high = soft_round_inverse(w - 0.5, 3.0), soft_round_inverse(w + 0.5, 3.0)
    assert torch.allclose(high - low, torch.ones_like(v))
    assert torch.allclose(soft_round_mean(w, 3.0), (low + high) / 2)


def test_modes(v):
    generator = torch.Generator().manual_seed(99)
    noisy = quantise(v, "noise", generator=generator)
    assert (noisy - v).abs().max() <= 0.5
    assert abs((noisy - v).mean()) < 5 * (1 / 12 / 500) ** 0.5
    assert torch.equal(noisy, quantise(v, "noise", generator=torch.Generator().manual_seed(99)))
    assert torch.equal(quantise(v, "round"), torch.round(v))
    assert torch.allclose(quantise(v, "straight-through"), torch.round(v))
    near = quantise(v, "soft-round", sharpness=12.0, generator=generator)
    assert ((near - torch.round(near)).abs() < 0.2).double().mean() > 0.8  # nearly rounded
    for mode, slope in [("noise", 1), ("straight-through", 1), ("soft-round", None)]:
        x = v.clone().requires_grad_()
        quantise(x, mode, generator=generator).sum().backward()
        assert torch.isfinite(x.grad).all()
        assert slope is None or (x.grad == slope).all()
        assert x.grad.mean() > 0.3
    x = v.clone().requires_grad_()
    assert not quantise(x, "round").requires_grad


def test_bad_arguments_are_named(v):
    with pytest.raises(ValueError, match="mode='fancy' is not known; expected one of 'noise', 'soft-round'"):
        quantise(v, "fancy")
    with pytest.raises(ValueError, match=r"sharpness=20 is outside 0\.\.12"):
        soft_round(v, 20)
    with pytest.raises(ValueError, match="sharpness=nan is outside"):
        soft_round_inverse(v, float("nan"))
