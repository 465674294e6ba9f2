"""Dicts of arrays: each comes back, is reported, and is named when it is damaged."""

import numpy as np
import pytest
import torch

import density as ds


@pytest.fixture
def weights(rng):
    return {
        "gru.weight": rng.normal(size=(60, 20)).astype(np.float32),
        "gru.bias": 0.01 * rng.normal(size=60),
        "counter": np.array(12345),
        "mask": rng.random((9, 9)) < 0.1,
        "nothing": np.zeros((0, 4), np.float16),
    }


def test_every_tensor_comes_back_within_its_step(weights):
    steps = {"gru.weight": 0.01, "gru.bias": 1e-4, "nothing": 1}
    blob = ds.compress_tensors(weights, steps)
    found = ds.decompress_tensors(blob)
    assert list(found) == list(weights)
    for name, x in weights.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape)
        assert np.abs(found[name].astype(float) - x.astype(float)).max(initial=0) <= steps.get(name, 0) / 2
    assert blob == ds.compress_tensors(weights, steps, workers=3)
    reports = {r.name: r for r in ds.tensor_reports(blob)}
    assert reports["gru.weight"].step == 0.01
    assert reports["gru.weight"].bits < 12
    assert sum(r.size for r in reports.values()) < len(blob)
    assert np.isnan(reports["nothing"].bits)
    assert isinstance(reports["mask"], ds.TensorReport)


def test_a_step_may_be_a_function_or_one_for_all(weights):
    by_sigma = ds.decompress_tensors(ds.compress_tensors(weights, lambda _, w: w.std() / 8 if w.size else None))
    for name in ("gru.weight", "gru.bias"):
        assert np.abs(by_sigma[name] - weights[name]).max() <= weights[name].std() / 16 * (1 + 1e-6)
    exact = ds.decompress_tensors(ds.compress_tensors(weights, lossless=True))
    assert all(exact[name].tobytes() == x.tobytes() for name, x in weights.items())
    one = ds.decompress_tensors(ds.compress_tensors(weights, 0.5), ["counter"])
    assert list(one) == ["counter"]


def test_a_state_dict_goes_back_into_its_module():
    layer = torch.nn.GRU(6, 5)
    blob = ds.compress_tensors(layer.state_dict(), lossless=True)
    other = torch.nn.GRU(6, 5)
    other.load_state_dict(ds.decompress_tensors(blob, kind="torch"))
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters()))
    with pytest.raises(TypeError, match="tensor 'w' is bfloat16, which numpy does not have"):
        ds.compress_tensors({"w": torch.zeros(3, dtype=torch.bfloat16)}, 1)


def test_damage_names_the_tensor(weights):
    blob = ds.compress_tensors(weights, lossless=True)
    for size in range(0, len(blob), 7):
        with pytest.raises(ds.CorruptDataError):
            ds.decompress_tensors(blob[:size])
    for at in range(0, len(blob), 3):
        broken = blob[:at] + bytes([blob[at] ^ 16]) + blob[at + 1 :]
        with pytest.raises(ds.CorruptDataError):
            ds.decompress_tensors(broken)
    broken = bytearray(blob)
    broken[-3] ^= 1
    with pytest.raises(ds.CorruptDataError, match="tensor 'nothing': the checksum of the header"):
        ds.decompress_tensors(broken)
    assert ds.decompress_tensors(broken, ["counter"])["counter"] == 12345


MISUSE = [
    (lambda: ds.compress_tensors({"w": np.ones(3)}), ValueError, "tensor 'w' is float64: pass step="),
    (lambda: ds.compress_tensors({"w": np.ones(3)}, {"v": 1}), ValueError, "step has no entry for it; pass one"),
    (lambda: ds.compress_tensors({"w": np.ones(3)}, -1), ValueError, "tensor 'w': step=-1.0 is not a positive number"),
    (
        lambda: ds.compress_tensors({"w": np.ones(3, complex)}, 1),
        TypeError,
        "tensor 'w': .* compress x.real",
    ),
    (lambda: ds.compress_tensors({3: np.ones(3)}, 1), TypeError, "the name 3 is not a string"),
    (lambda: ds.decompress_tensors(ds.compress([1])), ds.NotOurDataError, "not compressed tensors"),
    (lambda: ds.decompress_tensors(ds.compress_tensors({"a": [1]}), ["b"]), KeyError, "there is no tensor 'b'"),
    (lambda: ds.decompress_tensors(ds.compress_tensors({}), kind="jax"), ValueError, "pass 'numpy' or 'torch'"),
]


@pytest.mark.parametrize("call, error, message", MISUSE, ids=range(len(MISUSE)))
def test_misuse_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()
