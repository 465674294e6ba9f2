"""A small mutation tester: change one operator, constant or sign of a module, and see whether the tests notice.

    python tests/mutants.py lowrank/selection/lu.py --tests tests/lowrank/test_selection_laws.py --limit 20
    python tests/mutants.py lowrank/tolerance.py --tests tests/lowrank/test_tolerance.py --slice

Each mutant runs in a copy of the packages and tests, never in the working tree, with a numba cache of its own where it
touches a kernel. A mutant whose tests fail, or take ten times as long, is killed; the others survive and are printed:
each is a missing test, or a change that changes nothing. The exit code is 1 where fewer than ``--least`` are killed.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("lowrank", "seqsolve", "density", "tests", "benchmarks", "pyproject.toml")
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True)
class Mutant:
    """One changed source: where, what stood there and what stands there now."""

    path: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in place of `node`."""
    new: ast.AST
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in COMPARISONS:
                new = copy.deepcopy(node)
                new.ops[i] = COMPARISONS[type(op)]()
                yield new
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        new = copy.deepcopy(node)
        new.op = OPERATORS[type(node.op)]()
        yield new
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        doubled = 2 * value or 1.0  # twice zero would change nothing
        yield ast.Constant(not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else doubled)
    elif isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in CALLS:
            new = copy.deepcopy(node)
            setattr(new, "id" if isinstance(node, ast.Name) else "attr", CALLS[name])
            yield new


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """(parent, field, index, node) of what is code and not an annotation, a decorator or a message."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(tree, (ast.JoinedStr, ast.Raise)):
            continue
        for i, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST):
                yield tree, field, i, node
                yield from places(node)


def mutants(source: str, path: str = "module.py") -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    found = []
    for parent, field, i, node in list(places(tree)):
        for new in changes(node):
            _put(parent, field, i, ast.copy_location(new, node))
            found.append(Mutant(path, node.lineno, ast.unparse(node), ast.unparse(new), ast.unparse(tree)))
            _put(parent, field, i, node)
    return found


def _put(parent: ast.AST, field: str, i: int | None, node: ast.AST) -> None:
    if i is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[i] = node


def passes(folder: Path, tests: list[str], cache: str, timeout: float | None) -> bool:
    """Whether the tests pass in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survivors(
    chosen: list[Mutant], tests: list[str], root: Path = ROOT, seconds: float = float("inf")
) -> tuple[list[Mutant], int]:
    """(mutants that the tests did not notice, how many were tried); none is begun after `seconds`."""
    began = time.monotonic()
    alive: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder, caches = Path(name) / "copy", Path(name) / "cache"
        folder.mkdir()
        for part in COPIED:
            if (root / part).is_dir():
                shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "golden*"))
            elif (root / part).exists():
                shutil.copy(root / part, folder / part)
        start = time.monotonic()
        if not passes(folder, tests, str(caches / "all"), None):
            raise SystemExit("the tests fail without any mutant; mend that first")
        timeout = 30 + 10 * (time.monotonic() - start)
        for count, mutant in enumerate(chosen):
            if time.monotonic() - began > seconds:
                return alive, count
            target = folder / mutant.path
            original = target.read_text()
            target.write_text(mutant.source)
            # numba's cache does not notice a change in another file, so that a kernel's mutant gets one of its own
            cache = caches / (str(count) if target.stem.endswith("kernels") else "all")
            if passes(folder, tests, str(cache), timeout):
                alive.append(mutant)
                print(f"survived  {mutant}", flush=True)
            target.write_text(original)
    return alive, len(chosen)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("modules", nargs="+", help="files to mutate, relative to the repository")
    parser.add_argument(
        "--tests", nargs="+", required=True, help="test files (or any pytest arguments) that should notice"
    )
    parser.add_argument("--limit", type=int, help="mutants to try, drawn at random; all unless said")
    parser.add_argument("--seed", type=int, default=7, help="of the draw")
    parser.add_argument(
        "--slice", action="store_true", help="begin no mutant after 45 seconds: for continuous integration"
    )
    parser.add_argument("--least", type=float, default=0.0, help="share of mutants that has to be killed")
    options = parser.parse_args(arguments)
    chosen = [m for module in options.modules for m in mutants((ROOT / module).read_text(), module)]
    random.Random(options.seed).shuffle(chosen)
    chosen = chosen[: options.limit]
    alive, tried = survivors(chosen, options.tests, seconds=45.0 if options.slice else float("inf"))
    share = 1 - len(alive) / tried if tried else 1.0
    print(f"{tried - len(alive)} of {tried} mutants killed ({share:.0%})")
    return 0 if share >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
