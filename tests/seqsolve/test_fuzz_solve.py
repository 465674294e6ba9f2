"""A short slice of the fuzz run; `python tests/seqsolve/fuzz_solve.py` is the whole."""

import pytest

from tests.seqsolve import fuzz_solve


@pytest.mark.parametrize("method", range(len(fuzz_solve.METHODS)))
def test_a_slice_of_the_fuzz_run(method):
    lengths = [T for T in fuzz_solve.LENGTHS if T <= 7] + [60]
    numbers = range(method, 3 * len(fuzz_solve.METHODS), len(fuzz_solve.METHODS))
    assert [wrong for k in numbers if (wrong := fuzz_solve.case(k, 20316, lengths, cells=False)[1])] == []
