"""The shape of the house: small files, three packages that never import each other, shared helpers kept equal."""

import ast
import re

import pytest

from tests.conftest import PACKAGES, ROOT

LINES = 500
SHARED = ("_jit.py", "_lazy.py", "_threads.py")  # stand in each package, because the packages never import each other


def sources(*folders):
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported_roots(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def test_no_file_is_longer_than_500_lines():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in sources(*PACKAGES, "benchmarks", "tests", "examples")
    }
    assert {name: n for name, n in lengths.items() if n > LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_neither_its_siblings_nor_the_tests(package):
    strangers = {*PACKAGES, "benchmarks", "tests", "examples"} - {package}
    found = {path.name: set(imported_roots(path)) & strangers for path in sources(package)}
    assert {name: roots for name, roots in found.items() if roots} == {}


@pytest.mark.parametrize("name", SHARED)
def test_helpers_that_stand_in_each_package_are_equal(name):
    texts = {(ROOT / package / name).read_text() for package in PACKAGES}
    assert len(texts) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names_as_the_interpreter(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    typed = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                for alias in line.names:
                    # `from . import scan` names a file, `from .scan import affine_scan` a name in it
                    typed[alias.asname or alias.name] = line.module or alias.name
    module = __import__(package)
    assert typed == module._EXPORTS


@pytest.mark.parametrize("package", PACKAGES)
def test_each_public_name_is_tested(package):
    tests = "\n".join(p.read_text() for p in (ROOT / "tests" / package).glob("test_*.py"))
    assert [name for name in __import__(package).__all__ if not re.search(rf"\b{name}\b", tests)] == []


def test_kernels_are_compiled_by_our_wrapper_alone():
    """No explicit signature, no parallel=True, no bare njit: `_jit.kernel` holds the thread and cache rules."""
    bare = re.compile(r"@(numba\.)?(n?jit|vectorize|guvectorize)\b|parallel=True|fastmath=True")
    offenders = [p.name for p in sources(*PACKAGES) if p.name != "_jit.py" and bare.search(p.read_text())]
    assert offenders == []


def test_no_assert_guards_user_input():
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES)
        if path.name not in ("testing.py",)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert offenders == []
