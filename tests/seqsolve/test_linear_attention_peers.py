"""The recurrences beside the kernels that others wrote for a GPU; skipped where there is no GPU or no such package."""

import pytest

from seqsolve import linear_attention as la


def given(name, **sizes):
    example = la.TABLE[name].example(**{"B": 2, "H": 2, "T": 128, "dk": 32, "dv": 32, **sizes})
    return {key: x.cuda() for key, x in example.items()}


def close(found, expected):
    assert float((found - expected).abs().max()) < 2e-3 * float(expected.abs().max())


@pytest.mark.gpu
def test_mamba_is_that_of_mamba_ssm():
    peer = pytest.importorskip("mamba_ssm.ops.selective_scan_interface", reason="mamba_ssm is not installed")
    x = given("mamba1", H=1, dk=16)
    u, delta, B, C = (x[key][:, 0].mT.contiguous() for key in ("v", "dt", "k", "q"))
    o = peer.selective_scan_fn(u, delta, x["A"][0].mT.contiguous(), B, C, x["skip"][0])
    close(la.mamba1(**x)[0][:, 0].mT, o)


@pytest.mark.gpu
def test_gated_linear_attention_is_that_of_fla():
    peer = pytest.importorskip("fla.ops.gla", reason="fla (flash-linear-attention) is not installed")
    x = given("gla")
    q, k, v, g = (x[key].transpose(1, 2).contiguous() for key in ("q", "k", "v", "log_decay"))
    close(la.gla(**x)[0].transpose(1, 2), peer.chunk_gla(q, k, v, g, scale=1.0)[0])
