"""The gallery: the trained GRU beside its own formulas, and inputs from seeds."""

import importlib.metadata

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import gallery
from tests.reference import cell_step

try:
    importlib.metadata.distribution("g2p_en")
    needs_g2p = pytest.mark.skipif(False, reason="")
except importlib.metadata.PackageNotFoundError:
    needs_g2p = pytest.mark.skip(reason="the g2p_en distribution is not installed")

TEXT = "A recurrence remembers what it has read, and a trained one remembers for long."


def g2p_formula(x, h, w_ih, w_hh, b_ih, b_hh):
    """The cell of g2p_en: r and z from one product, n = tanh(n_ih + r n_hh), h = (1 - z) n + z h."""
    n_r = 2 * len(h)
    a, d = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    r, z = np.split(1 / (1 + np.exp(-(a[:n_r] + d[:n_r]))), 2)
    n = np.tanh(a[n_r:] + r * d[n_r:])
    return (1 - z) * n + z * h


@needs_g2p
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_the_trained_gru_follows_the_formulas_of_its_package(part):
    gru = gallery.g2p_gru(part)
    assert (gru.input_size, gru.hidden_size, gru.training) == (256, 256, False)
    arrays = [p.detach().double().numpy() for p in gru.parameters()]
    x = gallery.g2p_inputs(TEXT).double().numpy()
    h = g = np.zeros(256)
    with torch.no_grad():
        states = gru(torch.from_numpy(x).float())[0].numpy()
    for t in range(len(x)):
        h, g = g2p_formula(x[t], h, *arrays), cell_step("gru", g, x[t], *arrays)
        np.testing.assert_allclose(h, g, rtol=1e-12, atol=1e-12)
        assert np.abs(states[t] - h).max() < 1e-4


@needs_g2p
def test_characters_become_embeddings():
    x = gallery.g2p_inputs("ab, C!")
    embedding = gallery._g2p_arrays()["enc_emb"]
    assert embedding.shape == (len(gallery.GRAPHEMES), 256)
    rows = [gallery.GRAPHEMES.index(g) for g in ("a", "b", "</s>", "c", "</s>")]
    np.testing.assert_array_equal(x.numpy(), embedding[rows])
    with pytest.raises(ValueError, match="has no letter a-z"):
        gallery.g2p_inputs("123 !")
    with pytest.raises(ValueError, match="part='middle' is unknown"):
        gallery.g2p_gru("middle")


@needs_g2p
def test_windowed_newton_solves_the_trained_gru_with_a_certificate():
    gru, u = gallery.g2p_gru(), gallery.g2p_inputs(TEXT * 3)
    for module, inputs, error in ((gru, u, 1e-4), (gallery.g2p_gru().double(), u.double(), 1e-11)):
        x0 = torch.zeros(256, dtype=inputs.dtype)
        solution = sq.solve(module, x0, inputs, method="newton", window=16)
        with torch.no_grad():
            truth = module.double()(inputs.double())[0]
        assert solution.certificate.ok, solution.explain()
        assert solution.status is sq.Status.CONVERGED
        assert float((solution.states.detach() - truth).abs().max()) < error
        assert 3 < solution.sweeps < 8


def test_g2p_is_named_when_it_is_missing(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'triskele\[tour\]'"):
        gallery.g2p_gru()


def test_one_seed_gives_one_network(rng):
    for make in (lambda s: gallery.torch_init("lstm", 3, 5, rng=s), lambda s: gallery.tanh_rnn(5, 1.2, rng=s)):
        a, b, c = (list(make(s).parameters()) for s in (7, 7, 8))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert not all(torch.equal(x, y) for x, y in zip(a, c, strict=True))
    with pytest.raises(ValueError, match="kind='cnn' is unknown"):
        gallery.torch_init("cnn", 3, 5)
    assert float(gallery.logistic(2.0)(torch.tensor(0.5), torch.tensor(0.1))) == pytest.approx(0.6)
    spread = gallery.tanh_rnn(200, 2.0, rng=rng).weight_hh_l0.std() * 200**0.5
    assert float(spread.detach()) == pytest.approx(2.0, rel=0.05)


def test_cells_of_known_character():
    module = gallery.multistable_rnn(3, rng=7)
    x = torch.tensor([[1.0, 1, 1], [-1, 1, -1]]).double()
    with torch.no_grad():
        ends = sq.solve(module, x, torch.zeros(200, 2, 3).double()).states[-1]
        assert torch.equal(ends.sign(), x)  # two inputs long ago, two memories
        assert torch.allclose(ends, torch.tanh(ends @ module.weight_hh_l0.T), atol=1e-12)
        A = gallery.spectral_rnn(5, 0.5, rng=7).weight_hh_l0
        assert float(torch.linalg.matrix_norm(A, 2)) == pytest.approx(0.5)
