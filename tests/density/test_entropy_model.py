"""The torch module: rates, gradients, bytes, and the state that has to survive."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from density.entropy_model import FourierEntropyModel
from density.errors import ChecksumError, CorruptDataError

CHANNELS = 5


@pytest.fixture
def y(rng):
    scales = np.array([0.02, 0.5, 2, 9, 300])[:, None, None]
    return torch.tensor(rng.laplace(size=(3, CHANNELS, 6, 7)) * scales + 1, dtype=torch.float32)


@pytest.fixture
def model(y, rng):
    model = FourierEntropyModel(CHANNELS, 8, learn_step=True).init_from_data(y)
    with torch.no_grad():  # away from every special point
        model.coefficients += torch.tensor(rng.normal(size=(CHANNELS, 9)) * 0.05)
        model.log_step += torch.tensor(rng.normal(size=(CHANNELS, 1)) * 0.2)
    return model


@pytest.fixture
def conditional(rng):
    model = FourierEntropyModel(CHANNELS, 4, features=3)
    with torch.no_grad():
        model.head.weight += torch.tensor(rng.normal(size=model.head.weight.shape) * 0.2)
        model.head.bias += torch.tensor(rng.normal(size=model.head.bias.shape) * 0.1)
        model.location += 0.3
    return model


@pytest.fixture
def features(rng):
    return torch.tensor(rng.integers(-3, 4, size=(3, 3, 6, 7)), dtype=torch.float32)


# --- shapes and types ---


@pytest.mark.parametrize(
    "shape", [(2, CHANNELS), (2, CHANNELS, 3), (1, CHANNELS, 2, 3, 4), (0, CHANNELS, 3), (2, CHANNELS, 0)]
)
@pytest.mark.parametrize("training", [True, False])
def test_any_shape_with_channels_on_axis_one(model, shape, training):
    y_hat, bits = model.train(training)(torch.zeros(shape))
    assert y_hat.shape == bits.shape == torch.Size(shape)
    strings = model.compress(torch.zeros(shape))
    assert model.decompress(strings, shape[2:]).shape == torch.Size(shape)


@pytest.mark.parametrize(
    "dtype, rate",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(model, y, dtype, rate):
    y_hat, bits = model.eval()((y / 8).to(dtype))
    assert (y_hat.dtype, bits.dtype) == (dtype, rate)
    assert model.train()(y.to(dtype))[0].dtype == dtype
    assert model.likelihood(y.to(dtype)).dtype == rate
    half = copy.deepcopy(model).bfloat16()
    _, coarse = half.eval()(y.to(torch.bfloat16))
    assert torch.isfinite(coarse).all()


def test_inputs_strided_and_under_autocast(model, y):
    model.eval()
    expected = model(y)
    strided = y.to(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in zip(model(strided), expected))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(model(y), expected))


# --- the rate ---


def test_evaluation_rounds_to_the_grid_of_each_channel(model, y):
    y_hat, bits = model.eval()(y)
    step = torch.exp(model.log_step.double()).reshape(CHANNELS, 1, 1)
    v = (y_hat.double() - model.location.double().reshape(CHANNELS, 1, 1)) / step
    assert (v - v.round()).abs().max() < 1e-3
    assert ((y_hat - y).abs() <= 0.5 * step * (1 + 1e-5) + 1e-5).all()
    assert torch.allclose(bits, model.bits(y_hat), rtol=1e-4, atol=1e-4)
    assert torch.allclose(model.likelihood(y_hat), torch.exp2(-model.bits(y_hat)))
    assert (bits >= 0).all()


@pytest.mark.parametrize("mode", ["noise", "soft-round", "straight-through"])
def test_every_training_mode_has_gradients_everywhere(model, y, mode):
    x = y.clone().requires_grad_()
    generator = torch.Generator().manual_seed(3131)
    y_hat, bits = model.train()(x, mode=mode, generator=generator)
    (bits.sum() + (y_hat - x).square().sum()).backward()
    assert (y_hat - y).abs().max() <= 1.01 * torch.exp(model.log_step).max()
    for grad in [x.grad, *(p.grad for p in model.parameters())]:
        assert torch.isfinite(grad).all()
        assert (grad != 0).any()
    again, _ = model(y, mode=mode, generator=torch.Generator().manual_seed(3131))
    assert torch.equal(again, y_hat)


def test_the_module_chooses_its_mode(model, y):
    for mode in ("noise", "soft-round", "straight-through"):
        model.quantisation = mode
        a, _ = model.train()(y, generator=torch.Generator().manual_seed(77))
        b, _ = model.eval()(y, mode=mode, generator=torch.Generator().manual_seed(77))
        assert torch.equal(a, b)
    assert torch.equal(model.eval()(y)[0], model(y, mode="round")[0])


def test_the_gradient_of_an_outlier_never_vanishes(model):
    for distance in (1e2, 1e5, 1e10, 1e25):
        x = torch.full((1, CHANNELS), distance, requires_grad=True)
        bits = model.train()(x, mode="straight-through")[1]
        bits.sum().backward()
        assert torch.isfinite(bits).all()
        assert (x.grad > 0).all()


@pytest.mark.parametrize("mode", ["noise", "soft-round", "straight-through"])
def test_a_thousand_scales_out_every_mode_pulls_back(model, mode):
    scale = torch.exp(torch.maximum(model.log_scale, model.log_step - 4)).detach().reshape(1, CHANNELS)
    for side in (1, -1):
        x = (side * 1e3 * scale + 1).requires_grad_()
        model.train()(x, mode=mode, generator=torch.Generator().manual_seed(83))[1].sum().backward()
        assert (side * x.grad > 0).all()


def test_training_lowers_the_rate_and_learns_the_step_when_asked(y):
    model = FourierEntropyModel(CHANNELS, 4, learn_step=True, init_scale=3.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(515)
    rates = []
    for _ in range(60):
        optimiser.zero_grad()
        y_hat, bits = model(y, generator=generator)
        (bits.mean() + 5 * (y_hat - y).square().mean() + 1e-3 * model.roughness()).backward()
        optimiser.step()
        rates.append(bits.mean().item())
    assert np.mean(rates[-10:]) < np.mean(rates[:10]) - 0.3
    assert (model.log_step != 0).any()


def test_only_what_should_be_trained_is_a_parameter():
    model = FourierEntropyModel(3, 4)
    assert {name for name, _ in model.named_parameters()} == {"coefficients", "location", "log_scale"}
    assert "log_step" in dict(model.named_buffers())
    learned = FourierEntropyModel(3, 4, learn_step=True)
    assert {name for name, _ in learned.named_parameters()} == {"coefficients", "location", "log_scale", "log_step"}
    assert not any(b.is_floating_point() for name, b in learned.named_buffers())


def test_roughness_is_the_integral(model):
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    k = torch.arange(9, dtype=torch.float64)
    a = model.coefficients.detach().double()
    wave = torch.exp(1j * math.pi * u[:, None] * k)
    p = (wave @ a.T.to(wave.dtype)).abs().square() / a.square().sum(-1)
    slope = (p[1:] - p[:-1]) * 4000
    assert model.roughness().item() == pytest.approx(slope.square().mean(0).mean().item(), rel=1e-3)


def test_roughness_in_half_precision(model):
    exact = model.roughness()
    assert copy.deepcopy(model).bfloat16().roughness().item() == pytest.approx(exact.item(), rel=0.1)


def test_init_from_data_beats_the_flat_start(y):
    flat = FourierEntropyModel(CHANNELS, 8)
    ready = FourierEntropyModel(CHANNELS, 8).init_from_data(y)
    assert (ready.eval()(y)[1].sum((0, 2, 3)) < flat.eval()(y)[1].sum((0, 2, 3)) + 1).all()
    for channel in (1, 2):  # in which few values are the only one of their kind
        v = np.rint((y[:, channel].numpy() - ready.location[channel].item()).ravel())
        counts = np.unique(v, return_counts=True)[1]
        assert ready(y)[1][:, channel].sum() < -1.1 * (counts @ np.log2(counts / v.size)) + 20


# --- the bytes ---


def test_strings_hold_what_evaluation_says(model, y):
    y_hat, bits = model.eval()(y)
    strings = model.compress(y)
    assert torch.equal(model.decompress(strings, (6, 7)), y_hat)
    assert torch.equal(model(y)[0], y_hat)  # frozen now, and still the same
    for string, rate in zip(strings, bits.sum((1, 2, 3)).tolist()):
        assert 8 * len(string) <= 1.001 * rate + 96


def test_the_rate_of_a_long_item_is_its_size(rng):
    y = torch.tensor(rng.normal(size=(1, 4, 20_000)) * np.array([0.1, 1, 5, 20])[:, None], dtype=torch.float32)
    model = FourierEntropyModel(4, 16).init_from_data(y).eval()
    rate = model(y)[1].sum().item()
    assert 8 * len(model.compress(y)[0]) == pytest.approx(rate, rel=1e-4, abs=256)


def test_a_string_does_not_depend_on_its_batch(model, y):
    strings = model.compress(y)
    assert [model.compress(item.unsqueeze(0))[0] for item in y] == strings
    assert model.compress(y.flip(0)) == strings[::-1]
    assert model.compress(y.double()) == strings
    assert model.compress(y.reshape(3, CHANNELS, 42)) == strings
    assert torch.equal(model.decompress(strings[1:2], (6, 7))[0], model.decompress(strings, (6, 7))[1])


def test_far_values_come_back(model):
    y = torch.tensor([1e3, -1e6, 1e9, 1e12, -1e13], dtype=torch.float64).reshape(1, CHANNELS)
    model.double().eval()
    assert torch.equal(model.decompress(model.compress(y)), model(y)[0])
    with pytest.raises(ValueError, match=r"steps from the location; fewer than 2\^52 can be coded"):
        model.compress(y * 1e9)


@pytest.mark.parametrize("damage", ["cut", "flip", "extend", "shape"])
def test_damaged_strings_are_refused(model, y, damage):
    string = model.compress(y[:1])[0]
    size = (6, 7)
    if damage == "cut":
        string = string[:-4]
    elif damage == "extend":
        string += b"abcd"
    elif damage == "shape":
        size = (6, 8)
    else:
        string = bytes([string[0], string[1] ^ 16, *string[2:]])
    with pytest.raises(CorruptDataError):
        model.decompress([string], size)


def test_symbols_that_were_not_encoded_are_noticed_by_their_checksum(model, y):
    """The stream of other latents is whole; only the checksum behind it tells."""
    strings, others = model.compress(y[:1]), model.compress(y[1:2])
    mixed = others[0][:-4] + strings[0][-4:]
    with pytest.raises(ChecksumError, match=r"strings\[0\] decodes to other latents than were encoded"):
        model.decompress([mixed], (6, 7))
    with pytest.raises(CorruptDataError, match="3 bytes are too few even for the checksum"):
        model.decompress([b"abc"], (6, 7))


def test_the_strings_of_another_model_are_refused(model, y):
    strings = model.compress(y)
    other = FourierEntropyModel(CHANNELS, 8).freeze()
    with pytest.raises(CorruptDataError):
        other.decompress(strings, (6, 7))
    with pytest.raises(RuntimeError, match="not frozen, so it wrote no strings"):
        FourierEntropyModel(CHANNELS, 8).decompress(strings, (6, 7))


def test_changed_parameters_are_noticed(model, y):
    before = model.compress(y)
    with torch.no_grad():
        model.location[2] += 0.01
    with pytest.raises(RuntimeError, match=r"parameters changed after freeze\(\); call freeze\(\) again"):
        model.compress(y)
    assert torch.equal(model.decompress(before, (6, 7)), model.eval()(y)[0])  # the frozen grid still holds
    assert model.freeze().compress(y) != before
    with torch.no_grad():
        model.coefficients[0, 3] += 0.3
    with pytest.raises(RuntimeError, match="parameters changed"):
        model.compress(y)


def test_a_last_place_of_another_machine_is_forgiven(model, y):
    strings = model.compress(y)
    with torch.no_grad():
        model.log_scale.copy_(torch.nextafter(model.log_scale, torch.tensor(99.0)))
    assert model.compress(y) == strings


# --- state ---


@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle", "torch.save"])
def test_the_model_survives(model, y, way):
    strings, expected = model.compress(y), model.eval()(y)
    if way == "state_dict":
        other = FourierEntropyModel(CHANNELS, 8, learn_step=True)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
    elif way == "deepcopy":
        other = copy.deepcopy(model)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    other.eval()
    assert all(torch.equal(a, b) for a, b in zip(other(y), expected))
    assert other.compress(y) == strings
    assert torch.equal(other.decompress(strings, (6, 7)), expected[0])


def test_a_cast_keeps_the_integers(model, y):
    strings = model.compress(y)
    expected = model.decompress(strings, (6, 7))
    cast = copy.deepcopy(model).double()
    assert torch.equal(cast.decompress(strings, (6, 7)).float(), expected)
    assert torch.equal(copy.deepcopy(model).half().float().decompress(strings, (6, 7)), expected)


def test_loading_into_a_model_that_has_tables(model, y):
    other = FourierEntropyModel(CHANNELS, 8, learn_step=True)
    other.compress(y)
    strings = model.compress(y)
    other.load_state_dict(model.state_dict())
    assert other.compress(y) == strings


def test_it_lives_inside_a_network(y):
    network = nn.Sequential(nn.Conv2d(CHANNELS, 4, 1), FourierEntropyModel(4, 3))
    y_hat, bits = network(y)
    (y_hat.sum() + bits.sum()).backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert "channels=4, order=3, quantisation='noise'" in repr(network)


# --- features ---


def test_a_new_head_changes_nothing(y):
    plain, conditional = FourierEntropyModel(CHANNELS, 4), FourierEntropyModel(CHANNELS, 4, features=3)
    plain.init_from_data(y), conditional.init_from_data(y)
    some = torch.ones(3, 3, 6, 7)
    ours, theirs = conditional.eval()(y, some), plain.eval()(y)
    assert torch.equal(ours[0], theirs[0])
    assert torch.allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-4)
    assert sum(map(len, conditional.compress(y, some))) <= 1.02 * sum(map(len, plain.compress(y))) + 30


def test_conditional_strings_hold_what_evaluation_says(conditional, features, y):
    y = y / torch.tensor([1.0, 1, 1, 4, 100]).reshape(-1, 1, 1)
    conditional.freeze().eval()
    y_hat, bits = conditional(y, features)
    strings = conditional.compress(y, features)
    assert torch.equal(conditional.decompress(strings, (6, 7), features), y_hat)
    for string, rate in zip(strings, bits.sum((1, 2, 3)).tolist()):
        assert 8 * len(string) <= 1.002 * rate + 128
    assert conditional.compress(y[1:2], features[1:2]) == strings[1:2]
    with pytest.raises(CorruptDataError):
        conditional.decompress([string[:-1] for string in strings], (6, 7), features)
    with pytest.raises(CorruptDataError):
        conditional.decompress([string + b"1" for string in strings], (6, 7), features)
    with pytest.raises(CorruptDataError):
        conditional.decompress([b""] * 3, (6, 7), features)


def test_features_matter_and_are_learned(conditional, features, y):
    _, bits = conditional.eval()(y, features)
    assert not torch.allclose(bits, conditional(y, -features)[1])
    x = features.clone().requires_grad_()
    conditional.train()(y, x)[1].sum().backward()
    for grad in (x.grad, conditional.head.weight.grad, conditional.coefficients.grad, conditional.log_scale.grad):
        assert torch.isfinite(grad).all()
        assert (grad != 0).any()


def test_a_conditional_model_survives(conditional, features, y):
    strings = conditional.compress(y, features)
    other = FourierEntropyModel(CHANNELS, 4, features=3)
    other.load_state_dict(conditional.state_dict())
    assert other.compress(y, features) == strings
    noisy = features + 1e-5  # equal after rounding to 2^-12
    assert torch.equal(other.decompress(strings, (6, 7), noisy), conditional.eval()(y, features)[0])


# --- bad input ---


def test_bad_latents_are_named(model):
    with pytest.raises(ValueError, match="y holds 1 NaN and 1 infinite values; look for a diverged encoder"):
        model(torch.tensor([[0.0, math.nan, math.inf, 0, 0]]))
    with pytest.raises(ValueError, match="y holds 1 NaN"):
        model.compress(torch.tensor([[math.nan, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match=r"y has shape \(2, 4\); expected \(N, 5, \.\.\.\), channels on axis 1"):
        model(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"y has shape \(5,\)"):
        model(torch.zeros(5))
    with pytest.raises(TypeError, match=r"y is torch\.int64; expected floating-point latents"):
        model(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(TypeError, match="y is ndarray; pass a torch tensor"):
        model(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="mode='fancy' is not known; expected one of 'noise'"):
        model(torch.zeros(1, 5), mode="fancy")
    with pytest.raises(TypeError, match="strings is one string; pass the list"):
        model.decompress(b"abcd", ())
    with pytest.raises(ValueError, match="an entry of size=-1 is not an integer in 0"):
        model.freeze().decompress([b""], (-1,))
    with pytest.raises(ValueError, match="1 values a channel; init_from_data needs at least 2"):
        model.init_from_data(torch.zeros(1, 5))


def test_bad_features_are_named(conditional, model, y, features):
    with pytest.raises(ValueError, match=r"this model is conditional: pass features of shape \(N, 3, \.\.\.\)"):
        conditional(y)
    with pytest.raises(ValueError, match=r"features have shape \(3, 3, 6, 6\); expected \(N, 3, \.\.\.\)"):
        conditional(y, features[..., :6])
    with pytest.raises(ValueError, match="features hold NaN"):
        conditional(y, features * math.nan)
    with pytest.raises(ValueError, match="features were passed to a model without them"):
        model(y, features)
    with pytest.raises(ValueError, match="features were passed to a model without them"):
        model.compress(y, features)
    with pytest.raises(ValueError, match="too far for 64-bit sums; scale them to about 1"):
        conditional.compress(y, features * 1e13)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 0}, r"channels=0 is not an integer in 1\.\."),
        ({"channels": 2.5}, r"channels=2\.5 is not an integer"),
        ({"order": 0}, r"order=0 is not an integer in 1\.\.128"),
        ({"order": 129}, "order=129"),
        ({"step": 0.0}, r"step=0\.0 must be finite and > 0"),
        ({"init_scale": math.inf}, "init_scale=inf must be finite"),
        ({"quantisation": "round"}, "quantisation='round' is not known; expected one of 'noise', 'soft-round'"),
        ({"sharpness": -1}, r"sharpness=-1 is outside 0\.\.12"),
        ({"tail": 0.0}, r"tail=0\.0 is outside 1e-06\.\.0\.1"),
        ({"features": 0}, "features=0"),
    ],
)
def test_bad_constructor_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FourierEntropyModel(**{"channels": 2, **arguments})


@pytest.mark.gpu
def test_cpu_and_gpu_give_the_same_bytes_and_latents(model, y):
    strings, expected = model.compress(y), model.eval()(y)
    there = copy.deepcopy(model).cuda()
    assert there.compress(y.cuda()) == strings
    assert torch.equal(there.decompress(strings, (6, 7)).cpu(), expected[0])
    y_hat, bits = there(y.cuda())
    assert torch.equal(y_hat.cpu(), expected[0])
    assert torch.allclose(bits.cpu(), expected[1], rtol=1e-4, atol=1e-3)
