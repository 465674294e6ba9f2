"""The shell: what it reads, prints and writes, and its exit codes."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import seqsolve as sq
from seqsolve.__main__ import main
from seqsolve.files import read_inputs, read_module
from tests.conftest import ROOT


class Stranger(nn.Module):
    """A model of somebody else's."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(3, 5)
        self.decoder = nn.LSTM(5, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x)[0])[0]


MODULES = {
    "gru": lambda: nn.GRU(3, 8, batch_first=True),
    "lstm": lambda: nn.LSTM(3, 6, num_layers=2, bidirectional=True),
    "projected": lambda: nn.LSTM(3, 6, proj_size=2, bias=False),
    "relu": lambda: nn.RNN(3, 4, nonlinearity="relu"),
    "rnncell": lambda: nn.RNNCell(3, 4),
    "grucell": lambda: nn.GRUCell(3, 4),
    "lstmcell": lambda: nn.LSTMCell(3, 4, bias=False),
}


@pytest.fixture
def files(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for name, make in MODULES.items():
        torch.save(make().state_dict(), f"{name}.pt")
    torch.save(nn.GRU(3, 8, batch_first=True), "module.pt")
    torch.save(Stranger(), "stranger.pt")
    torch.save({"epoch": 3, "state_dict": Stranger().state_dict()}, "checkpoint.pt")
    torch.save({"a": 1}, "numbers.pt")
    torch.save(nn.Linear(2, 2).state_dict(), "linear.pt")
    torch.save({"weight_hh_l0": torch.zeros(5, 2), "weight_ih_l0": torch.zeros(5, 2)}, "odd.pt")
    torch.save({**MODULES["gru"]().state_dict(), "bias_ih_l0": torch.zeros(3)}, "misfit.pt")
    (tmp_path / "junk.pt").write_text("junk")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "gru.pt").read_bytes()[:700])
    x = rng.standard_normal((200, 3))
    np.save("x.npy", x)
    np.save("batch.npy", np.repeat(x[:, None], 2, 1).astype(np.float32))
    np.save("whole.npy", np.ones((20, 3), int))
    np.savez("two.npz", a=x, b=x)
    np.save("narrow.npy", x[:, :2])
    np.save("flat.npy", x[:, 0])
    np.save("complex.npy", x + 0j)
    np.save("objects.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    (tmp_path / "junk.npy").write_text("junk")
    archive = (tmp_path / "two.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(archive[:300])
    (tmp_path / "flipped.npz").write_bytes(archive[:500] + b"\xff" * 9 + archive[509:])
    (tmp_path / "folder.npy").mkdir()
    state = MODULES["gru"]().state_dict()
    torch.save({name: t.to(torch.int32) for name, t in state.items()}, "whole.pt")
    torch.save({name: t.to("meta") for name, t in state.items()}, "meta.pt")
    torch.save({name: t.half() for name, t in state.items()}, "half.pt")
    torch.save({name: t.to_sparse() if t.dim() == 2 else t for name, t in state.items()}, "sparse.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    return x


def run(capsys, line):
    code = main(line.split())
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", MODULES)
def test_run_gives_the_outputs_of_the_module(name, files, capsys):
    flag = " --relu" if name == "relu" else ""
    code, out, err = run(capsys, f"run {name}.pt x.npy --json --output y.npy{flag}")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["ok"]
    assert report["written"] == ["y.npy"]
    made = MODULES[name]()
    made.load_state_dict(torch.load(f"{name}.pt", weights_only=True))
    made.batch_first = False
    x = torch.from_numpy(files).float()
    with torch.no_grad():
        if isinstance(made, nn.RNNCellBase):
            state, rows = None, []
            for u in x:
                state = made(u, state)
                rows.append(state[0] if name == "lstmcell" else state)
            expected = torch.stack(rows)
        else:
            expected = made(x)[0]
    np.testing.assert_allclose(np.load("y.npy"), expected.numpy(), atol=2e-6)


def test_a_saved_module_and_the_sentences_for_people(files, capsys):
    code, out, _ = run(capsys, "run module.pt batch.npy --compare --plot states.png")
    assert code == 0
    assert "certificate: exact sequential" in out
    assert "faster_than_torch" in out
    assert (code, out.count("GRU(3, 8")) == (0, 1)
    assert Path("states.png").read_bytes()[:4] == b"\x89PNG"
    assert float(out.split("largest_difference")[1].split()[0]) < 1e-6


def test_diagnose_every_layer(files, capsys):
    code, out, _ = run(capsys, "diagnose lstm.pt x.npy --json --plot seconds.svg")
    assert code == 0
    report = json.loads(out)
    assert list(report["layers"]) == ["layer 0", "layer 0, backwards", "layer 1", "layer 1, backwards"]
    first = report["layers"]["layer 0"]
    assert first["verdict"] == "sequential"
    assert first["lyapunov"] < 0
    assert set(first["predictions"]) <= set(sq.METHODS)
    assert "<svg" in Path("seconds.svg").read_text()
    code, out, _ = run(capsys, "diagnose grucell.pt x.npy")
    assert code == 0
    assert "verdict: sequential, since a gru cell of 4 units has a fused loop" in out


def test_the_layers_that_are_diagnosed_are_those_of_the_module(files):
    from seqsolve.__main__ import _layers

    module, x = read_module("lstm.pt"), torch.from_numpy(files).float()
    parts = list(_layers(module, x))
    with torch.no_grad():
        ahead, back = parts[2][1](parts[2][2])[0], parts[3][1](parts[3][2])[0].flip(0)
        torch.testing.assert_close(torch.cat([ahead, back], -1), module(x)[0], rtol=1e-5, atol=1e-6)


def test_a_stranger_needs_trust_and_a_name(files, capsys):
    code, _, err = run(capsys, "run stranger.pt x.npy")
    assert code == 2
    assert "is a pickle that needs" in err
    assert "unpickling can run any code; save the state_dict() instead, or pass --trust" in err
    code, out, _ = run(capsys, "run stranger.pt x.npy --trust --json")
    assert code == 0
    assert json.loads(out)["outputs"] == [200, 4]
    code, out, _ = run(capsys, "diagnose stranger.pt x.npy --trust --name encoder --json")
    assert code == 0
    assert json.loads(out)["model"] == "GRU(3, 5)"
    code, out, _ = run(capsys, "run checkpoint.pt x.npy --name encoder --json")
    assert json.loads(out)["outputs"] == [200, 5]


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("run none.pt x.npy", "there is no file none.pt"),
        ("run gru.pt none.npy", "there is no file none.npy"),
        ("run junk.pt x.npy", "junk.pt is not a file that torch.load can read"),
        ("run cut.pt x.npy", "cut.pt is not a file that torch.load can read"),
        ("run numbers.pt x.npy", "numbers.pt holds a dict; save a recurrent module, or its state_dict()"),
        ("run linear.pt x.npy", "holds no recurrent parts, no key ends in weight_hh_l0"),
        ("run odd.pt x.npy", "has weight_hh of shape (5, 2), which is that of no nn.RNN, nn.GRU or nn.LSTM"),
        ("run misfit.pt x.npy", "does not fit GRU(3, 8)"),
        ("run checkpoint.pt x.npy", "holds several recurrent parts: ['decoder', 'encoder']; name one"),
        ("run checkpoint.pt x.npy --name none", "has no part named 'none'; its recurrent parts are"),
        ("run stranger.pt x.npy --trust --name none", "no part named 'none'; its recurrent parts are ['encoder', 'dec"),
        ("diagnose stranger.pt x.npy --trust", "holds a Stranger; name the recurrent part that is meant by --name"),
        ("diagnose projected.pt x.npy", "diagnose takes an LSTM without projections"),
        ("run gru.pt narrow.npy", "narrow.npy has 2 numbers a step, and the module takes 3"),
        ("run gru.pt flat.npy", "flat.npy has shape (200,); pass inputs (T, m) or (T, B, m) with time first"),
        ("run gru.pt complex.npy", "complex.npy holds complex128; pass real numbers"),
        ("run gru.pt objects.npy", "objects.npy holds Python objects; save an array of numbers"),
        ("run gru.pt junk.npy", "junk.npy is damaged, or is no file of numpy.save or numpy.savez; save an array of"),
        ("run gru.pt cut.npz", "cut.npz is damaged, or is no file of numpy.save or numpy.savez; save an array of"),
        (
            "run gru.pt flipped.npz --key a",
            "flipped.npz is damaged, or is no file of numpy.save or numpy.savez; save an array",
        ),
        ("run gru.pt x.npy --key a", "x.npy holds one array without a name; leave --key a out"),
        ("run gru.pt x.npy --name none", "gru.pt is itself the recurrent part; leave --name none out"),
        ("run whole.pt x.npy", "whole.pt has weights of torch.int32; save dense ones of real numbers"),
        ("run meta.pt x.npy", "meta.pt has weights without values; save dense ones of real numbers"),
        ("run sparse.pt x.npy", "sparse.pt has weights that are sparse; save dense ones of real numbers"),
        ("diagnose half.pt x.npy", "half.pt has weights of torch.float16: diagnose takes float32 or float64"),
        ("run pickle.pt x.npy", "pickle.pt is not a file that torch.save wrote"),
        ("run gru.pt x.npy --output folder.npy", "folder.npy is a folder; name a file"),
        ("run gru.pt two.npz", "two.npz holds ['a', 'b']; pass --key with one of them"),
        ("run gru.pt two.npz --key c", "two.npz has no array 'c'; it holds ['a', 'b']"),
        ("run gru.pt x.npy --method fast", "method='fast' is unknown"),
        ("run gru.pt x.npy --output y.txt", "y.txt should end in .npy"),
        ("run gru.pt x.npy --plot none/y.png", "there is no folder none"),
    ],
)
def test_misuse_ends_in_one_sentence_and_code_2(line, sentence, files, capsys):
    code, out, err = run(capsys, line)
    assert (code, out) == (2, "")
    assert err.startswith(f"seqsolve {line.split()[0]}: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_inputs_of_whole_numbers_and_of_several_arrays(files):
    assert read_inputs(Path("whole.npy")).dtype == torch.int64
    assert read_inputs(Path("two.npz"), "b").shape == (200, 3)


def test_the_command_itself(files):
    command = [sys.executable, "-W", "error", "-m", "seqsolve"]
    done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "diagnose" in done.stdout
    done = subprocess.run([*command, "fly"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
