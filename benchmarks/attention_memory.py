"""Memory of causal attention at T = 4096: ``python -m benchmarks.attention_memory`` prints it.

Each contender runs in a process of its own; what is counted is by how much its peak of resident memory passes that of
the inputs, after a run at T = 64 has loaded the libraries. Linux only. Attention is (1, 4, T, 64), float32.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from seqsolve.attention import causal

LENGTH = 4096


def _naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
    return torch.softmax((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf), -1) @ v


CONTENDERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "seqsolve causal": lambda q, k, v: causal(q, k, v)[0],
    'seqsolve causal, method="blocks"': lambda q, k, v: causal(q, k, v, method="blocks")[0],
    "torch scaled_dot_product_attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "softmax of the whole matrix": _naive,
}


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak(name: str, length: int = LENGTH, *, backward: bool = False) -> int:
    """Bytes by which one call of this process passes what was resident before it."""
    torch.set_num_threads(1)

    def once(T: int) -> int:
        inputs = [torch.randn(1, 4, T, 64).requires_grad_(backward) for _ in range(3)]
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
        before = _status("VmRSS")
        o = CONTENDERS[name](*inputs)
        if backward:
            o.sum().backward()
        return _status("VmHWM") - before

    once(64)
    return once(length)


def measured(name: str, *, backward: bool = False) -> int:
    """`peak` in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.attention_memory", name, str(int(backward))]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """The table; or, given a contender and a direction, its bytes."""
    if len(sys.argv) == 3:
        print(peak(sys.argv[1], backward=bool(int(sys.argv[2]))))
        return
    print(f"| T = {LENGTH}, MB beyond the inputs | forward | forward and backward |\n|---|---|---|")
    for name in CONTENDERS:
        found = [measured(name, backward=backward) / 1e6 for backward in (False, True)]
        print(f"| {name} | {found[0]:.1f} | {found[1]:.1f} |")


if __name__ == "__main__":
    main()
