"""One call of each package that passes through every kernel; the answers must not depend on threads or forks."""

import ast
import importlib

import numpy as np

from tests.conftest import ROOT


def lowrank() -> dict[str, np.ndarray]:
    """Column ID, CUR and Nystrom, in both memory orders."""
    import scipy.sparse

    import lowrank as lr

    rng = np.random.default_rng(20261)
    A = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 80)) + 1e-3 * rng.standard_normal((300, 80))
    X = rng.standard_normal((400, 3))
    f = lr.column_id(A, rank=6, rng=7, workers=2)
    g = lr.cur(np.asfortranarray(A), rank=6, rng=7, workers=2)
    K = lr.nystrom(lr.GaussianKernel(bandwidth=1.5), X, rank=20, rng=7, workers=2)
    P = rng.standard_normal((50, 40))
    P[1] = P[0]  # a pair that a product of matrices would not resolve
    kernels = {"wide": (lr.LaplaceKernel(5.0), P), "flat": (lr.PolynomialKernel(2), P[:, :3])}
    S = scipy.sparse.random(2000, 900, density=0.02, rng=np.random.default_rng(20265), format="csr")
    found = {
        f"sparse {kind}": lr.column_id(getattr(S, f"to{kind}")(), rank=9, rng=7).indices for kind in ("csr", "csc")
    }
    found |= {"id": f.to_dense(), "cur": g.to_dense(), "nystrom": K.factor}
    found |= {f"kernel {name}": kernel(X, X) for name, (kernel, X) in kernels.items()}
    for name in sorted(lr.SELECTIONS):
        if name not in ("given", "auto"):
            found[f"select {name}"] = lr.select_columns(A, 6, method=name, rng=7)
    found["swaps"] = lr.select_columns(lr.gallery.kahan(60), 59, method="strong_rrqr", rng=7)
    return found


def seqsolve() -> dict[str, np.ndarray]:
    """Every fused cell, the scans and the solver."""
    import torch
    from torch import nn

    import seqsolve as sq

    generator = torch.Generator().manual_seed(20262)
    found = {}
    with torch.inference_mode():
        for name, module in {
            "rnn": nn.RNN(3, 8),
            "relu": nn.RNN(3, 8, nonlinearity="relu"),
            "gru": nn.GRU(3, 8),
            "lstm": nn.LSTM(3, 8),
            "lstm proj": nn.LSTM(3, 8, proj_size=4),
            "wide rnn": nn.RNN(3, 20),
            "wide gru": nn.GRU(3, 20),
            "wide lstm": nn.LSTM(3, 20),
        }.items():
            for dtype in (torch.float32, torch.float64):
                module = module.to(dtype)
                for p in module.parameters():
                    p.uniform_(-0.4, 0.4, generator=generator)
                x = torch.rand(50, 2, 3, generator=generator, dtype=dtype)
                found[f"{name} {dtype}"] = sq.parallelize(module, method="sequential")(x)[0].numpy()
        for name, cell in {
            "lem": sq.LEM(3, 9),
            "indrnn": sq.IndRNN(3, 9),
            "cfc": sq.CfC(3, 9),
            "cfc with a backbone": sq.CfC(3, 9, backbone=(12, 5)),
            "mingru": sq.MinGRU(3, 9),
        }.items():
            for p in cell.parameters():
                p.uniform_(-0.4, 0.4, generator=generator)
            x = torch.rand(50, 2, 3, generator=generator)
            found[name] = sq.parallelize(cell, method="sequential", workers=2)(x)[0].numpy()
    rng = np.random.default_rng(20263)
    shapes = {"scalar": (40,), "diag": (40, 4), "block": (40, 2, 2, 2), "dense": (40, 4, 4), "constant": (4, 4)}
    for structure, shape in shapes.items():
        A, b = 0.5 * rng.standard_normal(shape), rng.standard_normal((40, 4))
        found[f"scan {structure}"] = np.asarray(sq.affine_scan(A, b, np.zeros(b.shape[1]), structure=structure))
    found["scan complex"] = sq.affine_scan(rng.uniform(-0.6, 0.6, (40, 4)) * (1 + 1j), np.ones((40, 4), complex))
    A, b = rng.uniform(-0.9, 0.9, (1 << 16, 9)), rng.standard_normal((1 << 16, 9))
    found["scan complex"] = np.asarray(sq.affine_scan(A[:40] * 1j, b[:40]))
    found["scan in chunks"] = sq.affine_scan(A, b, workers=2)
    for module, size in ((nn.GRU(3, 8), 8), (nn.LSTM(3, 8), 16)):
        for p in module.parameters():
            p.data.uniform_(-0.4, 0.4, generator=generator)
        x = torch.rand(50, 3, generator=generator)
        for method in ("newton", "elk", "quasi_elk"):
            solved = sq.solve(module, torch.zeros(size), x, method=method, window=16)
            found[f"{method} {size}"] = solved.states.detach().numpy()
    for kind, size in (("rnn", 4), ("gru", 4), ("lstm", 8)):
        module = sq.gallery.torch_init(kind, 3, 4, rng=20268, dtype=torch.float64)
        u = torch.rand(40, 2, 3, generator=generator, dtype=torch.float64)
        loss = sq.solve(module, u.new_zeros(2, size), u, method="sequential").states.square().sum()
        for name, grad in zip(module.state_dict(), torch.autograd.grad(loss, list(module.parameters()))):
            found[f"gradient {kind} {name}"] = grad.numpy()
        module = sq.gallery.torch_init(kind, 3, 4, rng=20267).requires_grad_(False)
        u = torch.rand(3000, 3, generator=generator)
        found[f"shooting {kind}"] = sq.solve(module, torch.zeros(size), u, method="shooting").states.numpy()
    for dtype in (torch.float32, torch.float64):  # wide enough for two tiles of channels
        mamba = sq.linear_attention.TABLE["mamba1"].example(T=40, dk=3, dv=70, dtype=dtype)
        mamba = {name: x.requires_grad_() for name, x in mamba.items()}
        o, _ = sq.linear_attention.mamba1(**mamba)
        found[f"mamba1 {dtype}"] = o.detach().numpy()
        for name, grad in zip(mamba, torch.autograd.grad(o.square().sum(), list(mamba.values()))):
            found[f"mamba1 {dtype} {name}"] = grad.numpy()
        for kind in ("min_gru", "min_lstm"):  # wide and long enough for two threads
            given = sq.linear_attention.TABLE[kind].example(H=1, T=2000, dv=133, dk=133, dtype=dtype)
            given = {name: x.requires_grad_() for name, x in given.items()}
            o, _ = sq.linear_attention.TABLE[kind].function(**given)
            found[f"{kind} {dtype}"] = o.detach().numpy()
            for name, grad in zip(given, torch.autograd.grad(o.square().sum(), list(given.values()))):
                found[f"{kind} {dtype} {name}"] = grad.numpy()
    x = torch.rand(50, 8, generator=generator)
    options = {"method": "newton", "linearization": ("low-rank", 2)}
    found["low rank"] = sq.solve(
        lambda x, u: torch.tanh(x[..., :2].repeat_interleave(4, -1) / 2 + u), x[0], x, **options
    ).states.numpy()
    return found


def density() -> dict[str, np.ndarray]:
    """Fit, evaluate, compress and come back."""
    import torch

    import density as ds
    from density.checksum import crc32c

    rng = np.random.default_rng(20264)
    x = rng.standard_normal(2**17)  # from here on the counting and the evaluation go through kernels
    p = ds.fit(x, order=12)
    apart = np.where(x < 0, 1 + 1e-9 * x, 1e9 + x)  # whose pages are found by hashing
    t = np.linspace(-4, 4, 2**14)
    counts = rng.poisson(3.0, 4000)
    blob = ds.compress(counts)
    old = (ROOT / "tests" / "golden" / "v0_integers.tdnz").read_bytes()
    y = torch.from_numpy(rng.laplace(size=(2, 3, 500)))
    model = ds.FourierEntropyModel(3, order=4).double().init_from_data(y)
    bits = model(y.requires_grad_(), mode="straight-through")[1]
    bits.sum().backward()
    model.eval()
    strings = model.compress(y.detach())
    features = torch.from_numpy(rng.standard_normal((2, 2, 500)))
    conditional = ds.FourierEntropyModel(3, order=4, features=2).double().eval()
    with torch.no_grad():
        for parameter in conditional.head.parameters():
            parameter.copy_(0.1 * torch.from_numpy(rng.standard_normal(parameter.shape)))
    return {
        "rate": bits.detach().numpy(),
        "gradient": y.grad.numpy(),
        "strings": np.frombuffer(b"".join(strings), np.uint8),
        "conditional": np.frombuffer(b"".join(conditional.compress(y.detach(), features)), np.uint8),
        "latents": model.decompress(strings, (500,)).numpy(),
        "crc": np.array([crc32c(blob), crc32c(bytes(9 << 20), workers=2)]),
        "logpdf": p.logpdf(t),
        "sketch": ds.HistogramSketch(cells=4096).update(apart).counts,
        "table": p.pdf(np.linspace(-4, 4, 2**17), exact=False),
        "cdf": p.cdf(t),
        "ppf": p.ppf(np.linspace(0.01, 0.99, 50)),
        "sample": p.sample(100, rng=7),
        "bytes": np.frombuffer(blob, np.uint8),
        "counts": ds.decompress(blob),
        "version 0": ds.decompress(old),
    }


EXERCISES = {"lowrank": lowrank, "seqsolve": seqsolve, "density": density}


def entry_kernels(package: str) -> list[str]:
    """``module.name`` of each kernel that another file of the package names: the ones that users reach."""
    from numba.core.dispatcher import Dispatcher

    sources = {p: p.read_text() for p in sorted((ROOT / package).rglob("*.py"))}
    names = {
        path: {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        | {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        for path, text in sources.items()
        for tree in [ast.parse(text)]
    }
    found = []
    for path in sources:
        if not path.stem.endswith("kernels"):
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        used = set().union(*(names[other] for other in sources if other != path))
        found += [
            f"{module.__name__}.{name}"
            for name, value in vars(module).items()
            if isinstance(value, Dispatcher) and name in used and not name.startswith("_")
        ]
    return sorted(found)


def untouched(package: str) -> list[str]:
    """Kernels that no call in this process has run."""
    return [
        name
        for name in entry_kernels(package)
        for module, _, kernel in [name.rpartition(".")]
        if not getattr(importlib.import_module(module), kernel).signatures
    ]


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    """Equal to the last bit, NaN included."""
    return left.keys() == right.keys() and all(
        np.array_equal(left[k], right[k], equal_nan=left[k].dtype.kind in "fc") for k in left
    )


if __name__ == "__main__":  # `python -m tests.exercises fork lowrank`: run, fork, run again in the child
    import os
    import sys

    import torch

    torch.set_num_threads(1)  # torch's own OpenMP threads do not survive a fork; ours are what is tested
    name = sys.argv[2]
    before = EXERCISES[name]()
    missed = untouched(name)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if same(before, EXERCISES[name]()) else 3)
        except BaseException:
            os._exit(4)
    _, status = os.waitpid(pid, 0)
    print(f"child {os.waitstatus_to_exitcode(status)}; untouched {missed}")
