"""Recurrences and inputs that the tests, the benchmarks and the examples share, from contractive to chaotic."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import torch
from torch import Tensor, nn

#: What the encoder of g2p_en reads, in the order of its embedding rows.
GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")


def _generator(rng) -> torch.Generator:
    """A torch generator from anything that numpy's SPEC 7 `rng` takes."""
    return torch.Generator().manual_seed(int(np.random.default_rng(rng).integers(2**62)))


def torch_init(kind: str, inputs: int, hidden: int, *, rng=None, dtype=torch.float32, **options) -> nn.Module:
    """An nn.RNN, nn.GRU or nn.LSTM with torch's initialisation U(-1/sqrt(H), 1/sqrt(H)): contractive, hence easy.

    Parameters
    ----------
    kind : "rnn", "gru" or "lstm".
    inputs, hidden : sizes.
    rng : seed or numpy Generator.
    options : further arguments of the torch class.

    Examples
    --------
    >>> from seqsolve import gallery
    >>> gallery.torch_init("gru", 4, 8, rng=7)
    GRU(4, 8)
    """
    classes = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    if kind not in classes:
        raise ValueError(f"kind={kind!r} is unknown; choose one of {', '.join(map(repr, classes))}")
    module = classes[kind](inputs, hidden, dtype=dtype, **options)
    generator = _generator(rng)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-(hidden**-0.5), hidden**-0.5, generator=generator)
    return module


def tanh_rnn(n: int, gain: float, *, rng=None, dtype=torch.float64) -> nn.RNN:
    r"""x <- tanh(A x + u) with A Gaussian of variance gain^2 / n, inputs of size n added as they are.

    Below gain 1 it forgets, above it is chaotic as n grows (Sompolinsky, Crisanti, Sommers 1988,
    doi:10.1103/PhysRevLett.61.259); small n can go either way.

    Examples
    --------
    >>> from seqsolve import gallery
    >>> gallery.tanh_rnn(8, 1.5, rng=7)
    RNN(8, 8, bias=False)
    """
    module = nn.RNN(n, n, bias=False, dtype=dtype)
    noise = torch.randn(n, n, dtype=torch.float64, generator=_generator(rng))
    module.load_state_dict({"weight_ih_l0": torch.eye(n), "weight_hh_l0": gain / n**0.5 * noise})
    return module


def logistic(rate: float):
    """The step of the logistic map x <- rate x (1 - x) + u: settles below rate 3, chaotic at 4."""

    def step(x: Tensor, u: Tensor) -> Tensor:
        return rate * x * (1 - x) + u

    return step


def multistable_rnn(n: int, *, gain: float = 2.0, coupling: float = 0.3, rng=None, dtype=torch.float64) -> nn.RNN:
    """x <- tanh(gain x + weak coupling + u): up to 2^n fixed points, so that it remembers which one it fell into.

    Examples
    --------
    >>> from seqsolve import gallery
    >>> gallery.multistable_rnn(4, rng=7)
    RNN(4, 4, bias=False)
    """
    module = nn.RNN(n, n, bias=False, dtype=dtype)
    noise = coupling / n**0.5 * torch.randn(n, n, dtype=torch.float64, generator=_generator(rng))
    module.load_state_dict({"weight_ih_l0": torch.eye(n), "weight_hh_l0": gain * torch.eye(n) + noise})
    return module


def spectral_rnn(n: int, norm: float, *, rng=None, dtype=torch.float64) -> nn.RNN:
    """x <- tanh(A x + u) with a random A of the given spectral norm: contractive below 1, whatever the inputs."""
    module = tanh_rnn(n, 1.0, rng=rng, dtype=dtype)
    A = module.get_parameter("weight_hh_l0").detach()
    module.load_state_dict({"weight_ih_l0": torch.eye(n), "weight_hh_l0": norm * A / torch.linalg.matrix_norm(A, 2)})
    return module


def _g2p_arrays() -> dict[str, np.ndarray]:
    """The weights that the g2p_en distribution ships; its package is not imported (it downloads corpora)."""
    try:
        distribution = importlib.metadata.distribution("g2p_en")
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            "the trained GRU is part of the g2p_en distribution, which is not installed; pip install 'triskele[tour]'"
        ) from None
    with np.load(str(distribution.locate_file("g2p_en/checkpoint20.npz"))) as archive:
        return {name: archive[name] for name in archive.files}


def _gru(w_ih, w_hh, b_ih, b_hh) -> nn.GRU:
    gru = nn.GRU(w_ih.shape[1], w_hh.shape[1])
    arrays = {"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "bias_ih_l0": b_ih, "bias_hh_l0": b_hh}
    gru.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return gru.eval()


def g2p_gru(part: str = "encoder") -> nn.GRU:
    """The trained GRU-256 of g2p_en, grapheme to phoneme: weights that remember, unlike fresh ones.

    Parameters
    ----------
    part : "encoder" (reads embedded characters, see `g2p_inputs`) or "decoder" (reads embedded phonemes).

    Returns
    -------
    nn.GRU
        256 inputs, 256 units, float32, in eval mode. Its gates stand in torch's order r, z, n, and
        n = tanh(W x + b + r (U h + b_hh)) in both.

    Raises
    ------
    ModuleNotFoundError
        If the g2p_en distribution is not installed.

    References
    ----------
    Park, Kim (2019), g2pE, Apache licence 2.0.
    """
    prefix = {"encoder": "enc", "decoder": "dec"}.get(part)
    if prefix is None:
        raise ValueError(f"part={part!r} is unknown; choose 'encoder' or 'decoder'")
    arrays = _g2p_arrays()
    return _gru(*(arrays[f"{prefix}_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh")))


def g2p_inputs(text: str) -> Tensor:
    """The embedded characters of a text, (T, 256), as the encoder of g2p_en reads them.

    Letters are lower-cased; a run of anything else ends a word ("</s>"). The last word ends too.
    """
    rows = {grapheme: k for k, grapheme in enumerate(GRAPHEMES)}
    words = "".join(c if c in rows else " " for c in text.lower()).split()
    codes = [rows[grapheme] for word in words for grapheme in (*word, "</s>")]
    if not codes:
        raise ValueError(f"the text {text[:40]!r} has no letter a-z")
    return torch.from_numpy(_g2p_arrays()["enc_emb"][codes])
