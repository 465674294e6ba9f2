"""The mutation tester finds the places that matter, and tells a test that looks from one that does not."""

from tests.mutants import mutants, survivors

SOURCE = '''
"""A docstring with 3 numbers."""
LIMIT: int = 3


def clipped(x: float, low: float = -1.5) -> float:
    if x > LIMIT and not x == 7:
        return max(low, LIMIT)
    return x + 1
'''


def test_what_is_changed():
    found = {(m.line, m.before, m.after) for m in mutants(SOURCE)}
    assert found == {
        (3, "3", "4"),
        (6, "-1.5", "1.5"),
        (6, "1.5", "3.0"),
        (7, "x > LIMIT", "x >= LIMIT"),
        (7, "x > LIMIT and (not x == 7)", "x > LIMIT or not x == 7"),
        (7, "not x == 7", "x == 7"),
        (7, "x == 7", "x != 7"),
        (7, "7", "8"),
        (8, "max", "min"),
        (9, "x + 1", "x - 1"),
        (9, "1", "2"),
    }
    assert all(compile(m.source, "m", "exec") for m in mutants(SOURCE))
    assert mutants("def f(x):\n    raise ValueError(f'{x + 1} is wrong')\n") == []


def test_a_test_that_looks_kills_what_another_lets_live(tmp_path):
    (tmp_path / "lowrank").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "lowrank" / "__init__.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "tests" / "test_sharp.py").write_text(
        "from lowrank import double\n\ndef test_it():\n    assert double(3) == 6\n"
    )
    (tmp_path / "tests" / "test_blunt.py").write_text(
        "from lowrank import double\n\ndef test_it():\n    assert double(3) > 0\n"
    )
    chosen = mutants((tmp_path / "lowrank" / "__init__.py").read_text(), "lowrank/__init__.py")
    assert [str(m) for m in chosen] == [
        "lowrank/__init__.py:2: 2 * x  ->  2 / x",
        "lowrank/__init__.py:2: 2  ->  3",
    ]
    assert survivors(chosen, ["tests/test_sharp.py"], tmp_path) == ([], 2)
    assert survivors(chosen, ["tests/test_blunt.py"], tmp_path) == (chosen, 2)
    assert survivors(chosen, ["tests/test_blunt.py"], tmp_path, seconds=0.0) == ([], 0)
